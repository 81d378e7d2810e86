//! Caches with the steps of all stages: given to a registry or a directory, and found again where nothing was built before.

use std::fs;

use cais_testkit::TestDaemon;

use crate::build::Context;
use crate::daemon;
use crate::registry_kit::Registry;

/// Stages that are not in the result, with steps whose lines do not say all that they depend on.
fn context() -> Context {
    let text = "FROM busybox AS tools\nRUN cat /proc/sys/kernel/random/uuid >/tool\n\
        FROM busybox AS build\nCOPY --chmod=600 file /file\nWORKDIR /src\n\
        RUN --mount=type=cache,target=/c --mount=from=tools,target=/t cat /t/tool /file >/out\n\
        RUN --network=none true\n\
        FROM scratch\nCOPY --from=build /out /out\n";
    Context::new(&[("Dockerfile", text), ("file", "content\n")])
}

/// Steps that a command, a copy or a directory make.
const MAKING: usize = 6;

/// Builds, and answers the id of the image and how many steps were found.
fn build(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> (String, usize) {
    let id = context.path().with_extension("id");
    let id_flag = format!("--iidfile={}", id.display());
    let path = context.path().to_string_lossy();
    let args = [&["build", "--progress=plain", &id_flag], flags, &[&*path]].concat();
    let output = daemon.cais_output(&args).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    assert!(!error.contains("WARNING"), "{error}");
    let found = error
        .lines()
        .filter(|line| line.ends_with(" CACHED"))
        .count();
    (fs::read_to_string(&id).unwrap(), found)
}

#[test]
fn a_registry_keeps_the_steps_of_all_stages() {
    let (one, registry) = (daemon(), Registry::start());
    let context = context();
    let place = registry.name("cache:main");
    let to = format!("--cache-to=type=registry,ref={place},mode=max");
    let (made, found) = build(&one, &context, &[&to]);
    assert_eq!(found, 0);
    let names = one.cais(&["images", "--format={{.Repository}}"]).unwrap();
    assert!(!names.contains("cache"), "{names}");
    // What was exported is still this daemon's own cache.
    assert_eq!(build(&one, &context, &[]), (made.clone(), MAKING));
    let from = format!("--cache-from={place}");
    let other = daemon();
    assert_eq!(build(&other, &context, &[&from]), (made.clone(), MAKING));
    // Without the cache of all stages the build stage is made again, and is another one.
    let least = registry.name("cache:min");
    build(
        &one,
        &context,
        &[&format!("--cache-to=type=registry,ref={least},mode=min")],
    );
    let third = daemon();
    let (remade, found) = build(&third, &context, &[&format!("--cache-from={least}")]);
    assert!(found < MAKING, "{found}");
    assert_ne!(remade, made);
    // Another file is another step, and all above it.
    context.write("file", "other\n");
    let (changed, found) = build(&daemon(), &context, &[&from]);
    assert!((1..MAKING).contains(&found), "{found}");
    assert_ne!(changed, made);
}

#[test]
fn a_directory_keeps_them_too() {
    let one = daemon();
    let context = context();
    let scratch = tempfile::tempdir().unwrap();
    let place = scratch.path().join("cache");
    let to = format!("--cache-to=type=local,dest={},mode=max", place.display());
    let (made, _) = build(&one, &context, &[&to]);
    assert!(place.join("index.json").is_file());
    let other = daemon();
    let from = format!("--cache-from=type=local,src={}", place.display());
    assert_eq!(build(&other, &context, &[&from]), (made, MAKING));
}
