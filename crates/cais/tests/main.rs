//! End-to-end tests: our command line and the real docker on daemons of ours, checked with the kernel's eyes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod build;
mod build_attest;
mod build_cache;
mod build_cache_max;
mod build_cache_mounts;
mod build_clients;
mod build_contexts;
mod build_emulated;
mod build_faces;
mod build_faults;
mod build_git;
mod build_loans;
mod build_mounts;
mod build_outputs;
mod build_parameters;
mod build_platforms;
mod build_security;
mod build_urls;
mod cli_images;
mod clients;
mod compose;
mod connections;
mod corpus;
mod crashes;
mod cves;
mod cves_containers;
mod cves_images;
mod daemons;
mod digests;
mod disk;
mod errors;
mod examples;
mod full_disks;
mod image_keeping;
mod images_archives;
mod images_commit;
mod kills;
mod lifecycle;
mod matrix;
mod mount_namespaces;
mod names;
mod network_deaths;
mod network_faces;
mod network_flags;
mod network_kills;
mod networks;
mod policies;
mod probe;
mod publish;
mod registries;
mod registry;
mod registry_deaths;
mod registry_faults;
mod registry_kit;
mod registry_tls;
mod resources;
mod security;
mod served;
mod storage;
mod store;
mod streams;
mod versions;

use cais_testkit::{BaseImage, TestDaemon};

/// The binary under test.
const CAIS: &str = env!("CARGO_BIN_EXE_cais");

/// A daemon that has busybox.
fn daemon() -> TestDaemon {
    TestDaemon::with_images(CAIS, &[BaseImage::Busybox]).expect("a daemon with busybox")
}

/// What `inspect -f` prints, without spaces around it.
fn inspect(daemon: &TestDaemon, name: &str, template: &str) -> String {
    let text = daemon.cais(&["inspect", "-f", template, name]).unwrap();
    text.trim().to_owned()
}

/// A field of a container's `State`.
fn state(daemon: &TestDaemon, name: &str, field: &str) -> String {
    inspect(daemon, name, &format!("{{{{.State.{field}}}}}"))
}

/// The error of a command that must fail.
fn refused(daemon: &TestDaemon, args: &[&str]) -> String {
    let output = daemon.cais_output(args).unwrap();
    assert!(!output.status.success(), "{args:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

/// The binary behind a shell that does something first, in a directory of the test's.
fn wrapped(directory: &std::path::Path, setup: &str) -> std::path::PathBuf {
    let path = directory.join("cais");
    let script = format!("#!/bin/sh\n{setup}\nexec {CAIS} \"$@\"\n");
    std::fs::write(&path, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).unwrap();
    path
}
