//! The one binary: its name or its first word chooses the face.

mod daemon;
mod registry;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// What the binary can be.
#[derive(Debug, PartialEq, Eq)]
enum Face {
    CommandLine,
    Daemon,
    Registry,
    Monitor,
    Runtime,
    Init,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let (face, args) = choose(args);
    if matches!(face, Face::CommandLine | Face::Daemon | Face::Registry) {
        cais_sys::nss::use_files_only();
    }
    let code = match face {
        Face::CommandLine => cais_cli::main_with_daemon(args, own_daemon),
        Face::Daemon => daemon::main(args),
        Face::Registry => registry::main(args),
        Face::Monitor => cais_monitor::main(),
        Face::Runtime => cais_runtime::face::main(args),
        Face::Init => cais_runtime::reaper::main(args),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The command that starts a daemon for a command line that found none: this very program.
fn own_daemon() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("cais").arg("daemon");
    command
}

/// Chooses by the name the binary was called by, then by the first word, which is taken out.
fn choose(mut args: Vec<OsString>) -> (Face, Vec<OsString>) {
    let name = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_owned();
    let face = match name.to_str() {
        Some("dockerd") => Face::Daemon,
        Some("runc") => Face::Runtime,
        Some("docker-init") => Face::Init,
        Some("cais-monitor") => Face::Monitor,
        _ => match args.get(1).and_then(|word| word.to_str()) {
            Some("daemon") => take_first_word(&mut args, Face::Daemon),
            Some("registry") => take_first_word(&mut args, Face::Registry),
            Some("runtime") => take_first_word(&mut args, Face::Runtime),
            Some("monitor") => take_first_word(&mut args, Face::Monitor),
            _ => Face::CommandLine,
        },
    };
    (face, args)
}

fn take_first_word(args: &mut Vec<OsString>, face: Face) -> Face {
    args.remove(1);
    face
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(words: &[&str]) -> (Face, Vec<String>) {
        let (face, rest) = choose(words.iter().map(OsString::from).collect());
        (
            face,
            rest.iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        )
    }

    #[test]
    fn the_name_comes_before_the_first_word() {
        assert_eq!(
            chosen(&["/usr/bin/runc", "daemon"]),
            (Face::Runtime, vec!["/usr/bin/runc".into(), "daemon".into()])
        );
        assert_eq!(
            chosen(&["cais", "runtime", "run"]),
            (Face::Runtime, vec!["cais".into(), "run".into()])
        );
        assert_eq!(chosen(&["docker", "run", "x"]).0, Face::CommandLine);
        assert_eq!(chosen(&["dockerd"]).0, Face::Daemon);
        assert_eq!(chosen(&[]).0, Face::CommandLine);
    }
}
