//! Holes that builders of the field have had, each with a test named after it.

use std::os::unix::fs::symlink;

use crate::build::{Context, built, fails};
use crate::networks::free_ports;
use crate::{CAIS, daemon};

#[test]
fn cve_2022_4122_a_dockerfile_or_ignore_file_is_not_read_through_a_link_that_leaves_the_context() {
    let daemon = daemon();
    let context = Context::new(&[("sub/x", "")]);
    // Sent as it is: a client that follows links would not test the daemon.
    symlink("/etc/hostname", context.path().join("Dockerfile")).unwrap();
    symlink("/etc/hostname", context.path().join(".dockerignore")).unwrap();
    let tar = std::process::Command::new("tar")
        .args(["-C", &context.path().to_string_lossy(), "-cf", "-", "."])
        .output()
        .unwrap();
    let archive = context.path().join("../").join("archive.tar");
    let archive = daemon.scratch().join(archive.file_name().unwrap());
    std::fs::write(&archive, &tar.stdout).unwrap();
    let host = daemon.socket();
    let output = std::process::Command::new("curl")
        .args(["-s", "--unix-socket", &host.to_string_lossy()])
        .args(["-H", "Content-Type: application/x-tar", "--data-binary"])
        .arg(format!("@{}", archive.display()))
        .arg("http://d/build")
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(
        answer
            .contains("Cannot locate specified Dockerfile: Dockerfile: no such file or directory"),
        "{answer}"
    );
}

#[test]
fn cve_2020_10696_copy_stays_in_the_context_and_in_the_image() {
    let daemon = daemon();
    let context = Context::new(&[
        ("Dockerfile", "FROM busybox\nCOPY link /x\n"),
        ("f", "inside"),
    ]);
    symlink("/etc/machine-id", context.path().join("link")).unwrap();
    let (_, error) = fails(&daemon, &context, &[]);
    assert!(error.contains("file not found in build context"), "{error}");
    context.write(
        "Dockerfile",
        "FROM busybox\nCOPY ../../../../etc/passwd /x\n",
    );
    let (_, error) = fails(&daemon, &context, &[]);
    assert!(
        error.contains("forbidden path outside the build context"),
        "{error}"
    );
    // A link of the image that points out of it: the file lands inside.
    let outside = daemon.scratch().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let text = format!(
        "FROM busybox\nRUN ln -s {} /out\nCOPY f /out/f\n",
        outside.display()
    );
    context.write("Dockerfile", &text);
    built(&daemon, &context, &["-t", "linked"]);
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    let inside = format!("{}/f", outside.display());
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "linked", "cat", &inside])
            .unwrap(),
        "inside"
    );
}

#[test]
fn cve_2024_1753_a_bind_mount_stays_in_the_context() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=bind,source=link,target=/mnt ls /mnt\n",
    )]);
    symlink("/", context.path().join("link")).unwrap();
    // The root of a link is that of the context.
    let output = built(&daemon, &context, &[]);
    assert!(
        output.contains("Dockerfile\n") && !output.contains("etc"),
        "{output}"
    );
}

#[test]
fn cve_2024_23652_the_targets_of_mounts_do_not_touch_the_host() {
    let daemon = daemon();
    let precious = daemon.scratch().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("file"), "kept").unwrap();
    let path = precious.display();
    let context = Context::new(&[(
        "Dockerfile",
        &format!(
            "FROM busybox\nRUN --mount=type=tmpfs,target=/a/b umount /a/b 2>/dev/null; rm -rf /a 2>/dev/null; ln -s {path} /a 2>/dev/null; true\n"
        ),
    )]);
    built(&daemon, &context, &[]);
    assert_eq!(
        std::fs::read_to_string(precious.join("file")).unwrap(),
        "kept"
    );
}

#[test]
fn cve_2024_23651_a_cache_mount_is_one_directory_whatever_its_id() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=../../../../etc,target=/c ls /c; touch /c/mine\n",
    )]);
    let output = built(&daemon, &context, &[]);
    assert!(!output.contains("passwd"), "{output}");
    assert!(!std::path::Path::new("/etc/mine").exists());
}

#[test]
fn cve_2024_23653_insecure_steps_are_refused() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN --security=insecure id\n")]);
    let (_, error) = fails(&daemon, &context, &[]);
    assert!(
        error.contains("security.insecure is not allowed"),
        "{error}"
    );
}

#[test]
fn cve_2024_23650_bad_parameters_are_answers() {
    let daemon = daemon();
    for query in [
        "dockerfile=../../../../etc/passwd",
        "dockerfile=%00",
        "t=UPPER",
        "t=:",
        "target=%2e%2e",
        "buildargs=%7B",
        "buildargs=[]",
        "labels=1",
        "ulimits=%7B%7D",
        "memory=x",
        "remote=http://169.254.169.254/",
        "version=2",
        "platform=x",
        "networkmode=%0a",
        "squash=1",
    ] {
        let output = std::process::Command::new("curl")
            .args(["-s", "--unix-socket", &daemon.socket().to_string_lossy()])
            .args([
                "-w",
                "%{http_code}",
                "--data-binary",
                "FROM busybox\nRUN true",
            ])
            .arg(format!("http://d/build?{query}"))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(
            answer.contains("message") || answer.contains("Successfully built"),
            "{query}: {answer}"
        );
    }
    assert!(daemon.docker(&["version"]).is_ok(), "the daemon lives");
}

#[test]
fn cve_2024_24557_an_image_that_claims_to_be_a_step_is_no_hit() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN echo good >/f\n")]);
    built(&daemon, &context, &["-t", "honest"]);
    // The same history and configuration on another layer, loaded as if it came from somewhere.
    let archive = daemon.scratch().join("honest.tar");
    let path = archive.to_string_lossy().into_owned();
    daemon.docker(&["save", "-o", &path, "honest"]).unwrap();
    daemon.docker(&["builder", "prune", "-af"]).unwrap();
    daemon.docker(&["rmi", "honest"]).unwrap();
    daemon.docker(&["load", "-q", "-i", &path]).unwrap();
    let output = built(&daemon, &context, &[]);
    assert!(!output.contains("Using cache"), "{output}");
}

#[test]
fn cve_2026_33747_names_of_a_build_are_no_paths() {
    let daemon = daemon();
    let up = "../".repeat(12);
    let context = Context::new(&[("Dockerfile", "FROM busybox AS one\nRUN echo x >/x\n")]);
    let precious = daemon.scratch().join("precious");
    std::fs::write(&precious, "kept").unwrap();
    let outside = format!("{up}{}", precious.display());
    for flags in [
        ["--file", outside.as_str()],
        ["--target", outside.as_str()],
        ["--tag", outside.as_str()],
    ] {
        fails(&daemon, &context, &flags);
    }
    for line in [
        format!("COPY --from={outside} / /"),
        format!("RUN --mount=type=bind,from={outside},target=/m true"),
    ] {
        context.write("Dockerfile", &format!("FROM busybox\n{line}\n"));
        fails(&daemon, &context, &[]);
    }
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
}

#[test]
fn cve_2025_15558_no_program_is_taken_from_the_working_directory() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN echo x >/x\n")]);
    let trap = "#!/bin/sh\ntouch caught\n";
    for name in [
        "docker-build",
        "docker-buildx",
        "git",
        "runc",
        "cais",
        "tar",
    ] {
        let path = context.write(name, trap);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let mut command = daemon.client(crate::CAIS, &["build", "."]);
    let output = command.current_dir(context.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!context.path().join("caught").exists());
}

#[test]
fn cve_2025_64443_web_pages_do_not_reach_the_api() {
    let mut daemon = daemon();
    let port = free_ports(&daemon, 1);
    let flag = format!("--host=tcp://127.0.0.1:{port}");
    daemon.restart_with(&[&flag]).unwrap();
    let answer = |flags: &[&str], host: &str| {
        let output = std::process::Command::new("curl")
            .args(["-s", "-w", " %{http_code}"])
            .args(flags)
            .arg(format!("http://{host}:{port}/v1.44/containers/json"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let rebound = format!("evil.example:{port}:127.0.0.1");
    let page = answer(&["--resolve", &rebound], "evil.example");
    assert!(
        page.ends_with(" 403") && page.contains("is not a name of this daemon"),
        "{page}"
    );
    for flags in [
        &["-H", "Origin: http://evil.example"][..],
        &[
            "-H",
            "Origin: null",
            "-X",
            "POST",
            "-H",
            "Content-Type: text/plain",
            "-d",
            "{}",
        ],
    ] {
        let page = answer(flags, "127.0.0.1");
        assert!(
            page.ends_with(" 403") && page.contains("requests of web pages"),
            "{page}"
        );
    }
    for host in ["127.0.0.1", "localhost"] {
        let own = answer(&["-4"], host);
        assert!(own.ends_with(" 200"), "{own}");
    }
}

#[test]
fn cve_2025_0495_arguments_of_builds_are_told_to_nobody() {
    let daemon = daemon();
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    collector.set_nonblocking(true).unwrap();
    let address = format!("http://{}", collector.local_addr().unwrap());
    let context = Context::new(&[("Dockerfile", "FROM busybox\nARG TOKEN\nENV A=b\n")]);
    let path = context.path().to_string_lossy();
    let args = ["build", "-q", "--build-arg", "TOKEN=hush-hush", &path];
    let mut command = daemon.client(CAIS, &args);
    for name in [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "DOCKER_CLI_OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        command.env(name, &address);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let nobody = collector.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    assert!(!daemon.log().contains("hush-hush"), "{}", daemon.log());
}
