//! Failures of other engines around containers, their programs and their neighbours, each under its number.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use cais_testkit::TestDaemon;

use crate::build::{Context, build, built};
use crate::security::inside;
use crate::{CAIS, daemon, inspect, wrapped};

#[test]
fn cve_2022_1227_top_runs_nothing_of_the_container() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN for d in /bin /usr/bin /sbin; do mkdir -p $d && rm -f $d/ps && \
         printf '#!/bin/sh\\ntouch /pwned\\n' >$d/ps && chmod +x $d/ps; done\n",
    )]);
    built(&daemon, &context, &["-t", "hostile"]);
    let run = ["run", "-d", "--name=hostile", "hostile", "sleep", "1000"];
    daemon.cais(&run).unwrap();
    for args in [
        &["top", "hostile"][..],
        &["top", "hostile", "-o", "pid,args"],
    ] {
        let told = daemon.cais(args).unwrap();
        assert!(told.contains("sleep 1000"), "{told}");
    }
    assert!(!daemon.cais(&["diff", "hostile"]).unwrap().contains("pwned"));
    // The trap works: a program inside that is asked for by name is this one.
    daemon.cais(&["exec", "hostile", "ps"]).unwrap();
    assert!(daemon.cais(&["diff", "hostile"]).unwrap().contains("pwned"));
}

#[test]
fn cve_2020_14370_cve_2021_3602_an_environment_is_that_of_one_container() {
    let scratch = tempfile::tempdir().unwrap();
    let binary = wrapped(scratch.path(), "export OF_THE_DAEMON=hidden");
    let daemon = TestDaemon::with_images(binary, &[cais_testkit::BaseImage::Busybox]).unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        let names = text.lines().filter_map(|line| line.split_once('='));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let clients: Vec<_> = (0..12)
        .map(|number| {
            let (name, own) = (format!("--name=c{number}"), format!("-eOWN{number}=1"));
            let args = ["run", &name, &own, "busybox", "env"];
            let mut client = daemon.client(CAIS, &args);
            let client = client.env("OF_THE_CLIENT", "hidden").stdout(Stdio::piped());
            client.spawn().unwrap()
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        let output = client.wait_with_output().unwrap();
        let own = format!("OWN{number}");
        let expected = ["HOME", "HOSTNAME", "PATH", &own].map(str::to_owned);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(names(&printed), BTreeSet::from(expected));
        let kept = inspect(
            &daemon,
            &format!("c{number}"),
            "{{range .Config.Env}}{{println .}}{{end}}",
        );
        assert_eq!(names(&kept), BTreeSet::from([own, "PATH".to_owned()]));
    }
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN env\n")]);
    let text = built(&daemon, &context, &["--no-cache"]);
    assert!(text.contains("PATH=/"), "{text}");
    assert!(
        !text.contains("OF_THE_DAEMON") && !text.contains("OWN"),
        "{text}"
    );
}

#[test]
fn cve_2021_20188_a_user_reads_no_files_of_root() {
    let daemon = daemon();
    let script = "cat /etc/shadow /secret 2>&1; cat /open; id -u";
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo root::0::::: >/etc/shadow && chmod 600 /etc/shadow && echo x >/secret && \
         chmod 0400 /secret && echo seen >/open\n",
    )]);
    built(&daemon, &context, &["-t", "files"]);
    let args = ["run", "--rm", "-u", "1000", "files", "sh", "-c", script];
    let read = daemon.cais(&args).unwrap();
    assert_eq!(read.matches("Permission denied").count(), 2, "{read}");
    assert!(read.ends_with("seen\n1000\n"), "{read}");
    // Nor does one that comes later, by `exec`, in a container of root.
    let run = ["run", "-d", "--name=roots", "files", "sleep", "1000"];
    daemon.cais(&run).unwrap();
    let args = ["exec", "-u", "1000", "roots", "sh", "-c", script];
    let read = daemon.cais(&args).unwrap();
    assert_eq!(read.matches("Permission denied").count(), 2, "{read}");
}

#[test]
fn cve_2025_9566_cve_2026_55686_directories_that_the_engine_makes_are_made_inside() {
    let daemon = daemon();
    let outside = daemon.scratch().join("outside");
    let host = outside.to_string_lossy().into_owned();
    let dockerfile = format!(
        "FROM busybox\nRUN ln -s {host} /absolute && ln -s ../../../../../..{host} /climbing\n\
         WORKDIR /absolute/by/workdir\nCOPY Dockerfile /climbing/by/copy/\nADD Dockerfile /absolute/by/add/\n"
    );
    let context = Context::new(&[("Dockerfile", &dockerfile)]);
    built(&daemon, &context, &["-t", "links"]);
    let volume = format!("{}:/climbing/by/bind", daemon.scratch().display());
    let args = [
        "run",
        "--rm",
        "-w=/climbing/by/run",
        "--tmpfs=/absolute/by/tmpfs",
        "-v",
        &volume,
        "-v=/absolute/by/volume",
        "links",
        "ls",
        &format!("{host}/by"),
    ];
    let made = daemon.cais(&args).unwrap();
    let made: BTreeSet<&str> = made.split_whitespace().collect();
    let expected = ["add", "bind", "copy", "run", "tmpfs", "volume", "workdir"];
    assert_eq!(made, BTreeSet::from(expected));
    assert!(!outside.exists(), "made on the host");
}

/// Addresses that a process listens at over TCP.
fn listens(pid: u32) -> Vec<String> {
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // TCP_LISTEN
            if fields[3] == "0A" && sockets.contains(fields[9]) {
                found.push(fields[1].to_owned());
            }
        }
    }
    found
}

#[test]
fn cve_2021_4024_cve_2025_9074_no_container_reaches_the_api() {
    let daemon = daemon();
    let published = ["run", "-d", "-p=127.0.0.1::80", "busybox", "sleep", "1000"];
    daemon.cais(&published).unwrap();
    assert_eq!(listens(daemon.pid()), Vec::<String>::new());
    let _here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_ne!(listens(std::process::id()), Vec::<String>::new());
    let script = "for host in $(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p') host.docker.internal; do \
                  for port in 2375 2376 80; do nc -w 2 $host $port </dev/null && echo reached; done; done; \
                  ls /var/run/docker.sock /run/cais* /run/docker.sock; true";
    let reached = inside(&daemon, &[], script);
    assert!(
        !reached.contains("reached") && !reached.contains("sock"),
        "{reached}"
    );
    // The socket of a container that the host's network is given is no nearer.
    let reached = inside(&daemon, &["--network=host"], script);
    assert!(!reached.contains("sock"), "{reached}");
}

#[test]
fn cve_2024_36621_the_same_build_many_times_at_once_is_one() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo first >/first\nCOPY Dockerfile /\nRUN cat /first Dockerfile >/second\n",
    )]);
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        let builds = [(); 8].map(|()| scope.spawn(|| build(&daemon, &context, &["-q"])));
        builds
            .map(|build| {
                let output = build.join().unwrap();
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{error}");
                String::from_utf8(output.stdout).unwrap()
            })
            .into_iter()
            .collect()
    });
    assert_eq!(ids.len(), 1, "{ids:?}");
}
