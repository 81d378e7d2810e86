//! One test for each hole that other engines have had, driven from where the attacker sits: an image, a volume, or a process
//! inside. What must hold is that the host is as it was, whichever error the attempt ends with.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use cais_testkit::TestDaemon;

use crate::security::{inside, mount_at};
use crate::{CAIS, daemon, probe};

/// Tries of a race, each of which takes a start.
const TRIES: usize = 20;

fn run(daemon: &TestDaemon, args: &[&str]) -> Output {
    daemon
        .cais_output(&[&["run", "--rm"], args].concat())
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn refused(daemon: &TestDaemon, args: &[&str], why: &str) {
    let output = run(daemon, args);
    assert!(!output.status.success(), "{args:?}: {}", text(&output));
    assert!(text(&output).contains(why), "{args:?}: {}", text(&output));
}

/// Starts a container that works against the others with a shell loop.
fn attacker(daemon: &TestDaemon, flags: &[&str], step: &str) {
    let script = format!("while :; do {step}; done 2>/dev/null");
    let end = ["busybox", "sh", "-c", &script];
    let args = [&["run", "-d", "--name", "attacker"], flags, &end].concat();
    daemon.cais(&args).unwrap();
}

/// What attackers like to change.
fn host_parameters() -> Vec<String> {
    [
        "kernel/core_pattern",
        "kernel/hostname",
        "kernel/sysrq",
        "kernel/modprobe",
    ]
    .map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default())
    .to_vec()
}

#[test]
fn cve_2016_3697_a_number_is_no_name() {
    let daemon = daemon();
    probe::import(&daemon, "numbers", &["USER 1000"], |root| {
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "1000:x:0:0::/:/bin/sh\n").unwrap();
    });
    assert_eq!(text(&run(&daemon, &["numbers", "id", "-u"])), "1000\n");
}

#[test]
fn cve_2016_9962_nobody_looks_into_an_exec_on_its_way() {
    let daemon = daemon();
    let look = "for p in /proc/[0-9]*; do ls -l $p/fd $p/cwd $p/root $p/exe >>/seen; done";
    attacker(&daemon, &[], look);
    for _ in 0..TRIES {
        daemon.cais(&["exec", "attacker", "true"]).unwrap();
        daemon.cais(&["exec", "-t", "attacker", "true"]).unwrap();
    }
    let seen = daemon.cais(&["exec", "attacker", "cat", "/seen"]).unwrap();
    assert!(seen.contains("-> /bin/"));
    let root = daemon.scratch().to_string_lossy().into_owned();
    let leaks: Vec<_> = seen
        .lines()
        .filter(|line| line.contains(&root) || line.contains("memfd") || line.contains("cais"))
        .collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn cve_2016_8867_users_have_no_capabilities() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    let show = "grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -vc '0000000000000000$'";
    for flags in [
        &["-u1000"][..],
        &["-u1000", "--privileged"],
        &["-u1000", "--cap-add=ALL"],
    ] {
        let shown = inside(&daemon, flags, &format!("{show} || true"));
        assert_eq!(shown, "0\n", "{flags:?}");
    }
    let exec = [
        "exec",
        "-u1000",
        "box",
        "sh",
        "-c",
        &format!("{show} || true"),
    ];
    assert_eq!(daemon.cais(&exec).unwrap(), "0\n");
}

#[test]
fn cve_2022_24769_nothing_is_inheritable() {
    let daemon = daemon();
    daemon
        .cais(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .unwrap();
    let show = "grep -cE 'Cap(Inh|Amb):.0000000000000000$' /proc/self/status";
    for flags in [&[][..], &["--privileged"], &["--cap-add=ALL"], &["-u33"]] {
        assert_eq!(inside(&daemon, flags, show), "2\n", "{flags:?}");
    }
    for flags in [&["exec"][..], &["exec", "--privileged"]] {
        let args = [flags, &["box", "sh", "-c", show]].concat();
        assert_eq!(daemon.cais(&args).unwrap(), "2\n", "{flags:?}");
    }
}

#[test]
fn cve_2019_5736_the_binary_cannot_be_written_from_inside() {
    let daemon = daemon();
    let before = fs::read(CAIS).unwrap();
    // An image whose program is whatever executes it.
    probe::import(&daemon, "mirror", &[], |root| {
        let script = root.join("bin/mirror");
        fs::write(&script, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        symlink("/proc/self/exe", root.join("bin/self")).unwrap();
    });
    for program in ["/bin/mirror", "/bin/self", "/proc/self/exe"] {
        for flags in [&[][..], &["--privileged"]] {
            run(&daemon, &[flags, &["mirror", program, "version"]].concat());
        }
    }
    let write = "for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in */busybox) ;; *) (echo x >>$p/exe) && echo wrote $(readlink $p/exe) >>/wrote;; esac; done";
    attacker(&daemon, &["--privileged"], write);
    for _ in 0..TRIES {
        daemon.cais(&["exec", "attacker", "true"]).unwrap();
    }
    let wrote = daemon.cais(&[
        "exec",
        "attacker",
        "sh",
        "-c",
        "cat /wrote 2>/dev/null; true",
    ]);
    assert_eq!(wrote.unwrap(), "");
    // The monitors, which a container in the host's process namespace can see.
    let monitors = "n=0; for p in /proc/[0-9]*; do grep -qa ^cais $p/cmdline && n=$((n+1)) && case $(readlink $p/exe) in *memfd*) (: >>$p/exe) && echo wrote;; esac; done; test $n -gt 0 && echo looked";
    let looked = inside(
        &daemon,
        &["--privileged", "--pid=host"],
        &format!("({monitors}) 2>/dev/null"),
    );
    assert_eq!(looked, "looked\n");
    assert!(fs::read(CAIS).unwrap() == before);
}

#[test]
fn cve_2015_3631_cve_2019_16884_nothing_but_procfs_covers_proc() {
    let daemon = daemon();
    for (name, path, why) in [
        (
            "whole",
            "/proc",
            "cannot be mounted because it is not of type proc",
        ),
        (
            "part",
            "/proc/sys",
            "cannot be mounted because it is inside /proc",
        ),
        (
            "attr",
            "/proc/self/attr",
            "cannot be mounted because it is inside /proc",
        ),
    ] {
        probe::import(&daemon, name, &[&format!("VOLUME {path}")], |_| {});
        refused(&daemon, &[name, "true"], why);
        refused(&daemon, &["-v", path, "busybox", "true"], why);
    }
    refused(
        &daemon,
        &["--tmpfs=/proc", "busybox", "true"],
        "not of type proc",
    );
    // What lxcfs needs, and the host's own, may be there.
    let file = daemon.scratch().join("cpuinfo");
    fs::write(&file, "quay\n").unwrap();
    let shown = inside(
        &daemon,
        &["-v", &format!("{}:/proc/cpuinfo", file.display())],
        "cat /proc/cpuinfo",
    );
    assert_eq!(shown, "quay\n");
    inside(&daemon, &["-v", "/proc:/proc"], "true");
}

#[test]
fn cve_2023_27561_links_of_an_image_do_not_move_proc_and_sys() {
    let daemon = daemon();
    for (name, path, kind) in [
        ("proclink", "/proc", " - proc "),
        ("syslink", "/sys", " - sysfs "),
    ] {
        probe::import(&daemon, name, &[], |root| {
            fs::create_dir(root.join("elsewhere")).unwrap();
            symlink("/elsewhere", root.join(&path[1..])).unwrap();
        });
        let show = "ls /elsewhere; cat /proc/self/mountinfo";
        let output = run(&daemon, &[name, "sh", "-c", show]);
        if output.status.success() {
            let shown = text(&output);
            let first = shown.lines().next().unwrap();
            assert!(
                first.contains(" - overlay "),
                "nothing is elsewhere: {first}"
            );
            assert!(mount_at(&shown, path).unwrap().contains(kind), "{shown}");
        } else {
            let why = "must be mounted on an ordinary directory";
            assert!(text(&output).contains(why), "{}", text(&output));
        }
    }
}

#[test]
fn cve_2021_30465_mounts_stay_below_the_root() {
    let daemon = daemon();
    let outside = daemon.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    // Inside a volume that both share the mount point turns into a link to the host's directory and back.
    let swap = format!(
        "mkdir /shared/at; rmdir /shared/at/in /shared/at; ln -s {} /shared/at; rm -f /shared/at",
        outside.display()
    );
    attacker(&daemon, &["-v", "shared:/shared"], &swap);
    for _ in 0..TRIES {
        run(
            &daemon,
            &[
                "-v",
                "shared:/shared",
                "-v",
                "other:/shared/at/in",
                "busybox",
                "touch",
                "/shared/at/in/mark",
            ],
        );
    }
    let found: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert!(found.is_empty(), "{found:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*outside.to_string_lossy()));
}

#[test]
fn cve_2024_21626_no_working_directory_leads_outside() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run", "-d", "--name", "box", "-h", "box", "busybox", "sleep", "1000",
        ])
        .unwrap();
    let look = "cd -P . ; until [ \"$(pwd)\" = / ]; do cd .. || exit; done; cat etc/hostname; cat ../../../../etc/hostname";
    let check = |directory: &str, output: Output| {
        let inside = String::from_utf8_lossy(&output.stdout);
        let stays = inside == "box\nbox\n";
        assert!(
            stays || !output.status.success(),
            "{directory}: {}",
            text(&output)
        );
    };
    for number in 3..40 {
        let directory = format!("/proc/self/fd/{number}");
        let exec = ["exec", "-w", &directory, "box", "sh", "-c", look];
        check(&directory, daemon.cais_output(&exec).unwrap());
        check(
            &directory,
            run(
                &daemon,
                &["-w", &directory, "-h", "box", "busybox", "sh", "-c", look],
            ),
        );
        check(
            &directory,
            run(
                &daemon,
                &[
                    "-w",
                    &format!("{directory}/../../.."),
                    "-h",
                    "box",
                    "busybox",
                    "sh",
                    "-c",
                    look,
                ],
            ),
        );
    }
    // And nothing is open that a program could leave by.
    let links = inside(
        &daemon,
        &[],
        "for n in 0 1 2 3 4 5 6 7 8 9; do ls -d /proc/self/fd/$n/..; done 2>/dev/null; true",
    );
    assert_eq!(links, "");
}

#[test]
fn cve_2024_45310_mount_points_are_made_inside() {
    let daemon = daemon();
    let outside = daemon.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    probe::import(&daemon, "links", &[], |root| {
        symlink(&outside, root.join("away")).unwrap();
        symlink("../../../../../..", root.join("up")).unwrap();
    });
    let up = format!("/up{}", outside.join("made").display());
    for target in ["/away/made", &up] {
        let mark = format!("touch {target}/mark");
        run(
            &daemon,
            &["-v", &format!("other:{target}"), "links", "sh", "-c", &mark],
        );
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn cve_2025_31133_a_false_null_device_masks_nothing() {
    let daemon = daemon();
    let before = host_parameters();
    let swap =
        "ln -sf /proc/sys/kernel/core_pattern /dev2/null; rm /dev2/null; mknod /dev2/null c 1 3";
    attacker(&daemon, &["-v", "dev:/dev2"], swap);
    for _ in 0..TRIES {
        let script = "for f in /proc/keys /proc/timer_list /proc/interrupts; do echo '|/x' >$f; done; cat /proc/keys";
        let output = run(&daemon, &["-v", "dev:/dev", "busybox", "sh", "-c", script]);
        // A start that notices is as good as one that masks; a mask that shows something is neither.
        assert!(output.stdout.is_empty(), "{}", text(&output));
    }
    assert_eq!(host_parameters(), before);
}

#[test]
fn cve_2025_52565_the_console_is_a_terminal() {
    let daemon = daemon();
    let before = host_parameters();
    let swap = "ln -sf /proc/sys/kernel/core_pattern /dev2/console; rm -f /dev2/console; ln -sfn /proc/sys/kernel /dev2/pts; rm -f /dev2/pts; mkdir /dev2/pts; rmdir /dev2/pts";
    attacker(&daemon, &["-v", "dev:/dev2"], swap);
    for _ in 0..TRIES {
        run(
            &daemon,
            &[
                "-t",
                "-v",
                "dev:/dev",
                "busybox",
                "sh",
                "-c",
                "echo '|/x' >/dev/console",
            ],
        );
    }
    assert_eq!(host_parameters(), before);
    let console = text(&run(
        &daemon,
        &["-t", "busybox", "stat", "-c%t", "/dev/console"],
    ));
    assert_eq!(console.trim(), "88");
}

#[test]
fn cve_2025_52881_writes_reach_the_real_procfs() {
    let daemon = daemon();
    let before = host_parameters();
    let file = daemon.scratch().join("file");
    fs::write(&file, "").unwrap();
    for target in [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/self/attr/exec",
        "/proc/sys/kernel/shmmax",
    ] {
        let bind = format!("{}:{target}", file.display());
        let flags = [
            "--sysctl=net.ipv4.ip_forward=0",
            "-v",
            &bind,
            "busybox",
            "true",
        ];
        refused(&daemon, &flags, "cannot be mounted");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    assert_eq!(host_parameters(), before);
}

#[test]
fn cve_2026_41579_dev_as_a_link_stays_inside() {
    let daemon = daemon();
    let outside = daemon.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    probe::import(&daemon, "devlink", &[], |root| {
        symlink(&outside, root.join("dev")).unwrap();
    });
    run(&daemon, &["devlink", "touch", "/dev/mark"]);
    run(&daemon, &["-t", "devlink", "touch", "/dev/mark"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn cve_2022_0811_parameters_of_the_host_are_not_set() {
    let daemon = daemon();
    let before = host_parameters();
    for name in [
        "kernel.core_pattern",
        "kernel.hostname+kernel.core_pattern",
        "vm.swappiness",
    ] {
        let flag = format!("--sysctl={name}=|/x");
        refused(&daemon, &[&flag, "busybox", "true"], "sysctl");
    }
    let flags = [
        "--network=host",
        "--sysctl=net.ipv4.ip_forward=1",
        "busybox",
        "true",
    ];
    refused(&daemon, &flags, "host network namespace");
    assert_eq!(host_parameters(), before);
}

#[test]
fn cve_2022_23648_volumes_are_filled_from_the_image() {
    let daemon = daemon();
    let secret = daemon.scratch().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "host").unwrap();
    let climb = format!("VOLUME /../../../..{}", secret.display());
    probe::import(&daemon, "climber", &[&climb, "VOLUME /linked"], |root| {
        symlink(&secret, root.join("linked")).unwrap();
        let own = root.join(secret.strip_prefix("/").unwrap());
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("image"), "").unwrap();
    });
    let script = format!("ls {} /linked/", secret.display());
    let shown = text(&run(&daemon, &["climber", "sh", "-c", &script]));
    assert!(shown.contains("image") && !shown.contains("key"), "{shown}");
}

#[test]
fn cve_2024_40635_users_of_images_do_not_wrap() {
    let daemon = daemon();
    for (number, user) in ["4294967296", "2147483648", "0:4294967296"]
        .iter()
        .enumerate()
    {
        let name = format!("wrap{number}");
        probe::import(&daemon, &name, &[&format!("USER {user}")], |_| {});
        refused(
            &daemon,
            &[&name, "id"],
            "uids and gids must be in range 0-2147483647",
        );
    }
}

#[test]
fn cve_2021_41091_users_of_the_host_cannot_reach_layers() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "box",
            "-v",
            "data:/data",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    fs::set_permissions(
        daemon.scratch(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let root = daemon.data_root().to_string_lossy().into_owned();
    let reached = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "find",
            &root,
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&reached.stdout).trim(), root);
    assert!(!reached.status.success());
    assert!(Path::new(&root).join("volumes/data/_data").exists());
}
