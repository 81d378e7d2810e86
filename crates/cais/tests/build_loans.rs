//! Secrets and agents for SSH keys: what a client lends its build, and that nothing of it stays.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use cais_testkit::TestDaemon;

use crate::build::{Context, fails};
use crate::{daemon, probe};

/// `cais build`, with these variables.
fn build(daemon: &TestDaemon, context: &Context, flags: &[&str], env: &[(&str, &str)]) -> Output {
    let path = context.path().to_string_lossy();
    let args = [&["build", "--progress=plain"], flags, &[&*path]].concat();
    let mut command = daemon.client(crate::CAIS, &args);
    command.envs(env.iter().copied()).output().unwrap()
}

fn built(daemon: &TestDaemon, context: &Context, flags: &[&str], env: &[(&str, &str)]) -> String {
    let output = build(daemon, context, flags, env);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

fn refused(daemon: &TestDaemon, context: &Context, flags: &[&str]) -> String {
    let output = build(daemon, context, flags, &[]);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The files below a directory that hold some text.
fn holding(directory: &Path, text: &str) -> String {
    let found = Command::new("grep")
        .args(["-rlaF", text])
        .arg(directory)
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap()
}

#[test]
fn secrets_are_seen_by_their_step_only() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\n\
         RUN --mount=type=secret,id=one stat -c '%a %u:%g' /run/secrets/one >/out && wc -c </run/secrets/one >>/out\n\
         RUN --mount=type=secret,id=one,target=/etc/two,mode=0440,uid=5,gid=6 stat -c '%a %u:%g' /etc/two >>/out\n\
         RUN --mount=type=secret,id=word,env=WORD test ! -e /run/secrets/word && echo ${#WORD} >>/out\n\
         RUN --mount=type=secret,id=word,env=WORD,target=/w test \"$WORD\" = \"$(cat /w)\" && ! echo x >/w\n\
         RUN --mount=type=secret,id=none ! ls /run/secrets/none && test -z \"$WORD\"\n",
    )]);
    let file = daemon.scratch().join("secret");
    fs::write(&file, "from-a-file-7f3a").unwrap();
    let secret = format!("id=one,src={}", file.display());
    let flags = [
        "-t",
        "made",
        "--secret",
        &secret,
        "--secret",
        "id=word,env=MY_WORD",
    ];
    built(
        &daemon,
        &context,
        &flags,
        &[("MY_WORD", "from-a-variable-91c2")],
    );
    fs::remove_file(&file).unwrap();
    let out = daemon.docker(&["run", "--rm", "made", "cat", "/out"]);
    assert_eq!(out.unwrap(), "400 0:0\n16\n440 5:6\n20\n");

    let trees = daemon.docker(&[
        "run",
        "--rm",
        "made",
        "sh",
        "-c",
        "cat /etc/two /w /run/secrets/*",
    ]);
    let text = trees.map_err(|error| error.to_string());
    assert!(!format!("{text:?}").contains("from-a"), "{text:?}");
    let history = daemon.docker(&["history", "--no-trunc", "made"]).unwrap();
    assert!(!history.contains("from-a"), "{history}");
    for text in ["from-a-file-7f3a", "from-a-variable-91c2"] {
        assert_eq!(holding(&daemon.data_root(), text), "");
        assert!(!daemon.log().contains(text));
    }
    let left = fs::read_dir(daemon.data_root().join("build/mounts")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn another_value_of_a_secret_is_the_same_step() {
    let daemon = daemon();
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=s,env=S,required echo ran\n",
    )]);
    let flags = ["--secret", "id=s,env=VALUE"];
    let first = built(&daemon, &context, &flags, &[("VALUE", "one")]);
    assert!(!first.contains("CACHED"), "{first}");
    let second = built(&daemon, &context, &flags, &[("VALUE", "two")]);
    assert!(second.contains("CACHED"), "{second}");
}

#[test]
fn what_a_step_cannot_do_without_is_missed() {
    let daemon = daemon();
    for (mount, expected) in [
        ("type=secret,id=s,required", "secret s: not found"),
        ("type=ssh,required", "unset ssh forward key default"),
        (
            "type=ssh,id=deploy,required=true",
            "unset ssh forward key deploy",
        ),
    ] {
        let text = format!("FROM busybox\nRUN --mount={mount} true\n");
        let context = Context::new(&[("Dockerfile", &text)]);
        let error = refused(&daemon, &context, &["--secret", "id=other,env=PATH"]);
        assert!(error.contains(expected), "{error}");
        let (_, error) = fails(&daemon, &context, &[]);
        assert!(error.contains(expected), "{error}");
    }
    let context = Context::new(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n",
    )]);
    built(&daemon, &context, &[], &[]);
    let error = refused(&daemon, &context, &["--secret", "id=s,src=/nowhere"]);
    assert!(error.contains("failed to stat /nowhere"), "{error}");
    let error = refused(&daemon, &context, &["--ssh", "a=/nowhere"]);
    assert!(error.contains("could not parse ssh"), "{error}");
}

/// A context with the probe in it.
fn with_probe(dockerfile: &str) -> Context {
    let context = Context::new(&[("Dockerfile", dockerfile)]);
    fs::copy(probe::program(), context.path().join("probe")).unwrap();
    context
}

#[test]
fn agents_answer_steps_and_are_not_changed_by_them() {
    let daemon = daemon();
    let socket = daemon.scratch().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let mut kinds = Vec::new();
        // Both steps that ask for keys come; the one that would remove them must not.
        for _ in 0..3 {
            let (mut user, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            if user.read_exact(&mut request).is_ok() {
                kinds.push(request[4]);
                user.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).unwrap();
            }
        }
        kinds
    });
    let context = with_probe(
        "FROM busybox\n\
         COPY probe /\n\
         RUN --mount=type=ssh,id=mine /probe agent 11 >/out && stat -c '%a %u %F' $SSH_AUTH_SOCK >>/out\n\
         RUN --mount=type=ssh,id=mine,target=/tmp/a,mode=0666,uid=7 /probe agent 19 >>/out; stat -c '%a %u' /tmp/a >>/out\n\
         RUN --mount=type=ssh,id=mine --mount=type=ssh,id=mine echo $SSH_AUTH_SOCK >>/out; ls /run/buildkit >>/out; /probe agent 11 >>/out\n\
         RUN test -z \"$SSH_AUTH_SOCK\"\n",
    );
    let ssh = format!("mine={}", socket.display());
    built(&daemon, &context, &["-t", "made", "--ssh", &ssh], &[]);
    assert_eq!(agent.join().unwrap(), [11, 11]);
    let out = daemon.docker(&["run", "--rm", "made", "cat", "/out"]);
    assert_eq!(
        out.unwrap(),
        "000000050c00000000\n600 0 socket\n0000000105\n666 7\n\
         /run/buildkit/ssh_agent.0\nssh_agent.0\nssh_agent.1\n000000050c00000000\n"
    );
}

#[test]
fn keys_of_files_are_lent_by_an_agent_of_ours() {
    let daemon = daemon();
    let key = daemon.scratch().join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "of-a-test", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let context = with_probe(
        "FROM busybox\nCOPY probe /\nRUN --mount=type=ssh,required /probe agent 11 >/out\n",
    );
    let ssh = format!("default={}", key.display());
    built(&daemon, &context, &["-t", "made", "--ssh", &ssh], &[]);
    let out = daemon
        .docker(&["run", "--rm", "made", "cat", "/out"])
        .unwrap();
    let text = hex::decode(out.trim()).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("ssh-ed25519") && text.ends_with("of-a-test"),
        "{text:?}"
    );
    assert_eq!(holding(&daemon.data_root(), "OPENSSH PRIVATE KEY"), "");
}
