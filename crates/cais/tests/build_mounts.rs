//! What a RUN of a Dockerfile sees beside its own tree.

use std::os::unix::fs::symlink;

use crate::build::{Context, built, fails};
use crate::daemon;

#[test]
fn a_here_document_runs_with_its_own_interpreter() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nUSER 1000\nWORKDIR /tmp\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print 6 * 7 > \"/tmp/x\"; print ARGC }\nEOF\n",
    )]);
    built(&daemon, &context, &["-t", "script"]);
    let output = daemon.docker(&[
        "run",
        "--rm",
        "script",
        "sh",
        "-c",
        "cat /tmp/x; ls -d /dev/pipes 2>&1",
    ]);
    let text = output.unwrap_or_else(|error| error.to_string());
    assert!(text.contains("42\n"), "{text}");
    assert!(text.contains("No such file"), "{text}");
}

#[test]
fn bind_mounts_show_stages_and_images_and_drop_what_is_written() {
    let daemon = daemon();
    let context = Context::new(&[
        ("sub/f", "context"),
        (
            "Dockerfile",
            "FROM busybox AS one\nRUN mkdir /d && echo stage >/d/f\n\
             FROM busybox\n\
             RUN --mount=from=one,source=/d,target=/m cat /m/f >/out && ! touch /m/x\n\
             RUN --mount=from=one,source=/d,target=/m,rw echo new >/m/f && echo more >/m/x && cat /m/f /m/x >>/out\n\
             RUN --mount=from=one,source=/d,target=/m ls /m >>/out\n\
             RUN --mount=target=/c,rw echo new >/c/sub/f && cat /c/sub/f >>/out\n\
             RUN --mount=target=/file,source=sub/f,rw echo file >/file && cat /file >>/out\n\
             RUN --mount=target=/c cat /c/sub/f >>/out\n\
             RUN --mount=from=busybox,source=/bin/busybox,target=/busybox /busybox echo image >>/out\n",
        ),
    ]);
    built(&daemon, &context, &["-t", "bound"]);
    let output = daemon.docker(&["run", "--rm", "bound", "cat", "/out"]);
    assert_eq!(
        output.unwrap(),
        "stage\nnew\nmore\nf\nnew\nfile\ncontextimage\n"
    );
    let left = std::process::Command::new("findmnt")
        .args(["-rno", "TARGET"])
        .output()
        .unwrap();
    let own = daemon.data_root().join("build").join("mounts");
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(!left.contains(&*own.to_string_lossy()), "{left}");
}

#[test]
fn a_cache_begins_with_the_files_of_another_stage() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox AS one\nRUN mkdir /d && echo stage >/d/f && chown 5:6 /d/f\n\
         FROM busybox\n\
         RUN --mount=type=cache,id=c,target=/c,from=one,source=/d stat -c %u:%g /c/f >/out; cat /c/f >>/out; echo kept >>/c/g\n\
         RUN --mount=type=cache,id=c,target=/c,from=one,source=/d cat /c/g >>/out\n\
         RUN --mount=type=cache,id=c,target=/c ls -A /c >>/out; mkdir /c/part; echo part >/c/part/f\n\
         RUN --mount=type=cache,id=c,target=/c,source=part cat /c/f >>/out\n\
         RUN --mount=type=cache,id=p,target=/c,sharing=private echo p >>/c/f\n\
         RUN --mount=type=cache,id=p,target=/c,sharing=private cat /c/f >>/out\n",
    )]);
    built(&daemon, &context, &["-t", "cached"]);
    let output = daemon.docker(&["run", "--rm", "cached", "cat", "/out"]);
    assert_eq!(output.unwrap(), "5:6\nstage\nkept\npart\np\n");
}

#[test]
fn cve_2024_11218_a_mount_from_a_stage_or_cache_stays_in_it() {
    let daemon = daemon();
    let secret = daemon.scratch().join("of-the-host");
    std::fs::write(&secret, "host").unwrap();
    let context = Context::new(&[]);
    symlink("/", context.path().join("link")).unwrap();
    let path = secret.display();
    for mount in [
        "from=one,source=/link,target=/m".to_owned(),
        "from=one,source=/link,target=/m,rw".to_owned(),
        "source=link,target=/m,rw".to_owned(),
        "source=../../../..,target=/m,rw".to_owned(),
        "type=cache,from=one,source=/link,target=/m".to_owned(),
        "type=cache,id=k,source=link,target=/m".to_owned(),
    ] {
        let text = format!(
            "FROM busybox AS one\nRUN ln -s / /link\n\
             FROM busybox\n\
             RUN --mount=type=cache,id=k,target=/k ln -sf / /k/link\n\
             RUN --mount={mount} ls /m && ! cat /m{path}\n"
        );
        context.write("Dockerfile", &text);
        built(&daemon, &context, &[]);
    }
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=from=busybox,source=/nope,target=/m true\n",
    );
    let (_, error) = fails(&daemon, &context, &[]);
    assert!(error.contains("failed to stat /nope"), "{error}");
}
