//! The allowed arrows between rooms (ARCHITECTURE.md, "Rooms") and the one crate that may say `unsafe`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::source;

/// Room, layer, and the rooms it may use. A room may only use rooms of a lower layer.
const ROOMS: &[(&str, u8, &[&str])] = &[
    ("sys", 0, &[]),
    ("types", 1, &[]),
    ("state", 2, &["types"]),
    ("runtime", 2, &["sys", "types"]),
    ("monitor", 3, &["sys", "types", "runtime"]),
    ("images", 3, &["sys", "types", "state"]),
    ("volumes", 3, &["sys", "types", "state"]),
    ("networks", 3, &["sys", "types", "state"]),
    ("distribution", 3, &["sys", "types"]),
    ("client", 3, &["types"]),
    ("session", 3, &["types"]),
    (
        "engine",
        4,
        &["sys", "types", "state", "runtime", "monitor"],
    ),
    ("services", 5, &["types", "runtime", "engine"]),
    ("build", 4, &["sys", "types"]),
    ("registry", 4, &["sys", "types", "state", "distribution"]),
    ("api", 5, &["sys", "types"]),
    ("console", 4, &["types", "client"]),
    ("options", 5, &["types", "client", "console"]),
    (
        "manifests",
        5,
        &["types", "client", "console", "distribution"],
    ),
    (
        "cli",
        6,
        &[
            "types",
            "build",
            "client",
            "console",
            "manifests",
            "options",
            "session",
        ],
    ),
    (
        "cais",
        7,
        &[
            "sys",
            "types",
            "state",
            "runtime",
            "monitor",
            "images",
            "volumes",
            "networks",
            "distribution",
            "registry",
            "client",
            "console",
            "engine",
            "services",
            "session",
            "build",
            "api",
            "cli",
        ],
    ),
    ("testkit", 1, &["sys"]),
];

/// Rooms that may be used by every other room's tests.
const TEST_ROOMS: &[&str] = &["testkit"];

/// Refuses arrows that the table does not allow, rooms that it does not know, and `unsafe` outside `sys`.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = arrows(root)?;
    for room in source::crates(root)? {
        if room == "sys" {
            continue;
        }
        for file in source::rust_files(&root.join("crates").join(&room))? {
            let text = fs::read_to_string(&file)?;
            if text.contains("allow(unsafe_code") || text.contains("expect(unsafe_code") {
                problems.push(format!(
                    "{}: only crates/sys may say unsafe",
                    file.display()
                ));
            }
        }
    }
    Ok(problems)
}

fn arrows(root: &Path) -> Result<Vec<String>> {
    let metadata = source::metadata(root)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if name == "xtask" {
            continue;
        }
        let room = name.strip_prefix("cais-").unwrap_or(name);
        let Some((_, layer, allowed)) = ROOMS.iter().find(|(known, _, _)| *known == room) else {
            problems.push(format!("{room} is not in the table of rooms"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(target) = dependency["name"]
                .as_str()
                .and_then(|name| name.strip_prefix("cais-"))
            else {
                continue;
            };
            if dependency["kind"] == "dev" && TEST_ROOMS.contains(&target) {
                continue;
            }
            let lower = ROOMS
                .iter()
                .any(|(known, other, _)| *known == target && other < layer);
            if !allowed.contains(&target) || !lower {
                problems.push(format!("{room} must not use {target}"));
            }
        }
    }
    Ok(problems)
}
