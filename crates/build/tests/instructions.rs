//! The 18 instructions and their flags.

use cais_build::dockerfile::instruction::{
    ArgPair, CommandLine, Healthcheck, KEYWORDS, NetworkMode, Pair, Run, Security, Transfer,
};
use cais_build::dockerfile::{Instruction, Kind};

use crate::{one, parse, refused};

fn text(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pair(name: &str, value: &str, legacy: bool) -> Pair {
    Pair {
        name: name.to_owned(),
        value: value.to_owned(),
        legacy,
    }
}

fn command(words: &[&str], shell: bool) -> CommandLine {
    CommandLine {
        words: text(words),
        shell,
        heredocs: Vec::new(),
    }
}

fn transfer(line: &str) -> Transfer {
    match one(line) {
        Kind::Add(transfer) | Kind::Copy(transfer) => transfer,
        other => panic!("{other:?}"),
    }
}

fn run(line: &str) -> Run {
    match one(line) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn add_and_copy() {
    // row: instruction|ADD|ADD
    // row: instruction|COPY|COPY
    let found = transfer("ADD a  b\t/d/");
    assert_eq!(
        (found.sources, found.destination),
        (text(&["a", "b"]), "/d/".to_owned())
    );
    let found = transfer("COPY [\"a b\", \"c\"]");
    assert_eq!(
        (found.sources, found.destination),
        (text(&["a b"]), "c".to_owned())
    );
    for keyword in ["ADD", "COPY"] {
        assert_eq!(
            refused(&format!("{keyword} a")),
            format!(
                "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
            )
        );
    }
}

#[test]
fn flags_of_add() {
    // row: flag|ADD|--chown
    // row: flag|ADD|--chmod
    // row: flag|ADD|--link
    // row: flag|ADD|--keep-git-dir
    // row: flag|ADD|--checksum
    // row: flag|ADD|--unpack
    // row: flag|ADD|--exclude
    let found = transfer(
        "ADD --chown=u:g --chmod=u=rw,go=r --link --keep-git-dir=true --checksum=sha256:ab \
         --unpack=false --exclude=*.o --exclude=x a b",
    );
    let want = Transfer {
        sources: text(&["a"]),
        destination: "b".to_owned(),
        chown: Some("u:g".to_owned()),
        chmod: Some("u=rw,go=r".to_owned()),
        link: true,
        keep_git_dir: Some(true),
        checksum: Some("sha256:ab".to_owned()),
        unpack: Some(false),
        exclude: text(&["*.o", "x"]),
        ..Transfer::default()
    };
    assert_eq!(found, want);
    assert_eq!(refused("ADD --parents a b"), "unknown flag: --parents");
    assert_eq!(refused("ADD --from=x a b"), "unknown flag: --from");
}

#[test]
fn flags_of_copy() {
    // row: flag|COPY|--from
    // row: flag|COPY|--chown
    // row: flag|COPY|--chmod
    // row: flag|COPY|--link
    // row: flag|COPY|--parents
    // row: flag|COPY|--exclude
    let found = transfer(
        "COPY --from=base --chown=1:2 --chmod=755 --link=false --parents --exclude=a a/./b c",
    );
    let want = Transfer {
        sources: text(&["a/./b"]),
        destination: "c".to_owned(),
        from: Some("base".to_owned()),
        chown: Some("1:2".to_owned()),
        chmod: Some("755".to_owned()),
        parents: true,
        exclude: text(&["a"]),
        ..Transfer::default()
    };
    assert_eq!(found, want);
    for (line, want) in [
        (
            "COPY --form=x a b",
            "unknown flag: --form (did you mean from?)",
        ),
        ("COPY --from a b", "missing a value on flag: --from"),
        (
            "COPY --link=x a b",
            "expecting boolean value for flag --link, not: x",
        ),
        ("COPY --checksum=x a b", "unknown flag: --checksum"),
    ] {
        assert_eq!(refused(line), want);
    }
}

#[test]
fn arg() {
    // row: instruction|ARG|ARG
    let pair = |name: &str, default: Option<&str>| ArgPair {
        name: name.to_owned(),
        default: default.map(str::to_owned),
        description: None,
    };
    assert_eq!(
        one("ARG a b= c=\"x y\" d='z'"),
        Kind::Arg(vec![
            pair("a", None),
            pair("b", Some("")),
            pair("c", Some("\"x y\"")),
            pair("d", Some("'z'")),
        ])
    );
    assert_eq!(refused("ARG"), "ARG requires at least one argument");
    assert_eq!(refused("ARG =x"), "ARG names can not be blank");
}

#[test]
fn cmd_and_entrypoint() {
    // row: instruction|CMD|CMD
    // row: instruction|ENTRYPOINT|ENTRYPOINT
    assert_eq!(one("CMD a  b"), Kind::Cmd(command(&["a  b"], true)));
    assert_eq!(
        one("CMD [\"a\", \"b\"]"),
        Kind::Cmd(command(&["a", "b"], false))
    );
    assert_eq!(one("CMD []"), Kind::Cmd(command(&[], false)));
    assert_eq!(one("CMD"), Kind::Cmd(command(&[], true)));
    assert_eq!(
        one("ENTRYPOINT [\"x\"]"),
        Kind::Entrypoint(command(&["x"], false))
    );
    assert_eq!(
        one("ENTRYPOINT ['x']"),
        Kind::Entrypoint(command(&["['x']"], true))
    );
    assert_eq!(
        refused("CMD [\"a\", 1]"),
        "when using JSON array syntax, arrays must be comprised of strings only"
    );
}

#[test]
fn env_and_label() {
    // row: instruction|ENV|ENV
    // row: instruction|LABEL|LABEL
    assert_eq!(
        one("ENV a=b c=\"d e\" f=g\\ h i='$j'"),
        Kind::Env(vec![
            pair("a", "b", false),
            pair("c", "\"d e\"", false),
            pair("f", "g\\ h", false),
            pair("i", "'$j'", false),
        ])
    );
    assert_eq!(
        one("ENV a  b  c=d"),
        Kind::Env(vec![pair("a", "b  c=d", true)])
    );
    assert_eq!(
        one("LABEL \"a.b\"=c d=\"\""),
        Kind::Label(vec![pair("\"a.b\"", "c", false), pair("d", "\"\"", false)])
    );
    for (line, want) in [
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        (
            "ENV a=b c",
            "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        ("LABEL =x", "LABEL names can not be blank"),
    ] {
        assert_eq!(refused(line), want);
    }
}

#[test]
fn expose_user_volume_workdir_stopsignal_maintainer_shell() {
    // row: instruction|EXPOSE|EXPOSE
    // row: instruction|USER|USER
    // row: instruction|VOLUME|VOLUME
    // row: instruction|WORKDIR|WORKDIR
    // row: instruction|STOPSIGNAL|STOPSIGNAL
    // row: instruction|MAINTAINER|MAINTAINER
    // row: instruction|SHELL|SHELL
    let list = |words: &[&str]| text(words);
    for (line, want) in [
        (
            "EXPOSE 80 443/udp 1-3",
            Kind::Expose(list(&["1-3", "443/udp", "80"])),
        ),
        ("USER a:b", Kind::User("a:b".to_owned())),
        ("VOLUME /a /b", Kind::Volume(list(&["/a", "/b"]))),
        ("VOLUME [\"/a b\"]", Kind::Volume(list(&["/a b"]))),
        ("WORKDIR /a b", Kind::Workdir("/a b".to_owned())),
        ("STOPSIGNAL SIGINT", Kind::StopSignal("SIGINT".to_owned())),
        (
            "MAINTAINER A B <a@b>",
            Kind::Maintainer("A B <a@b>".to_owned()),
        ),
        (
            "SHELL [\"bash\", \"-c\"]",
            Kind::Shell(list(&["bash", "-c"])),
        ),
    ] {
        assert_eq!(one(line), want, "{line}");
    }
    for (line, want) in [
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        (
            "VOLUME [\"\"]",
            "VOLUME specified can not be an empty string",
        ),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        (
            "SHELL bash -c",
            "SHELL requires the arguments to be in JSON form",
        ),
        ("USER --x=1 a", "unknown flag: --x"),
    ] {
        assert_eq!(refused(line), want, "{line}");
    }
}

#[test]
fn from() {
    // row: instruction|FROM|FROM
    // row: flag|FROM|--platform
    let file = parse("FROM --platform=linux/arm64 alpine:3@sha256:ab as B_1.x-y").unwrap();
    let from = &file.stages[0].from;
    assert_eq!(from.base, "alpine:3@sha256:ab");
    assert_eq!(from.platform.as_deref(), Some("linux/arm64"));
    assert_eq!(from.name.as_deref(), Some("b_1.x-y"));
    assert_eq!(from.written_name.as_deref(), Some("B_1.x-y"));
    for (line, want) in [
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a is b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM --nope=1 a", "unknown flag: --nope"),
    ] {
        assert_eq!(parse(line).unwrap_err().message, want);
    }
}

#[test]
fn healthcheck() {
    // row: instruction|HEALTHCHECK|HEALTHCHECK
    // row: flag|HEALTHCHECK|--interval
    // row: flag|HEALTHCHECK|--timeout
    // row: flag|HEALTHCHECK|--start-period
    // row: flag|HEALTHCHECK|--start-interval
    // row: flag|HEALTHCHECK|--retries
    let second = 1_000_000_000;
    assert_eq!(
        one(
            "HEALTHCHECK --interval=1m --timeout=2s --start-period=3s --start-interval=0s --retries=4 CMD curl -f x"
        ),
        Kind::Healthcheck(Healthcheck {
            test: text(&["CMD-SHELL", "curl -f x"]),
            interval: 60 * second,
            timeout: 2 * second,
            start_period: 3 * second,
            start_interval: 0,
            retries: 4,
        })
    );
    let exec = Healthcheck {
        test: text(&["CMD", "a", "b"]),
        ..Healthcheck::default()
    };
    assert_eq!(
        one("HEALTHCHECK cmd [\"a\", \"b\"]"),
        Kind::Healthcheck(exec)
    );
    let none = Healthcheck {
        test: text(&["NONE"]),
        ..Healthcheck::default()
    };
    assert_eq!(one("HEALTHCHECK none"), Kind::Healthcheck(none));
    for (line, want) in [
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        (
            "HEALTHCHECK EXEC x",
            "Unknown type \"EXEC\" in HEALTHCHECK (try CMD)",
        ),
        (
            "HEALTHCHECK --interval=1us CMD x",
            "Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "HEALTHCHECK --retries=-1 CMD x",
            "--retries cannot be negative (-1)",
        ),
        (
            "HEALTHCHECK --timeout=x CMD x",
            "time: invalid duration \"x\"",
        ),
        (
            "HEALTHCHECK --retries=1 --retries=2 CMD x",
            "duplicate flag specified: --retries",
        ),
    ] {
        assert_eq!(refused(line), want, "{line}");
    }
}

#[test]
fn onbuild() {
    // row: instruction|ONBUILD|ONBUILD
    assert_eq!(
        one("onbuild  copy a b"),
        Kind::Onbuild("copy a b".to_owned())
    );
    for (line, want) in [
        ("ONBUILD", "ONBUILD requires at least one argument"),
        (
            "ONBUILD ONBUILD RUN x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        (
            "ONBUILD MAINTAINER x",
            "MAINTAINER isn't allowed as an ONBUILD trigger",
        ),
    ] {
        assert_eq!(refused(line), want);
    }
}

#[test]
fn run_and_its_flags() {
    // row: instruction|RUN|RUN
    // row: flag|RUN|--mount
    // row: flag|RUN|--network
    // row: flag|RUN|--security
    assert_eq!(run("RUN echo  $x").command, command(&["echo  $x"], true));
    assert_eq!(
        run("RUN [\"a\", \"b\"]").command,
        command(&["a", "b"], false)
    );
    let found = run(
        "RUN --mount=type=tmpfs,target=/a --mount=target=/b --network=none --security=insecure x",
    );
    assert_eq!(found.mounts, ["type=tmpfs,target=/a", "target=/b"]);
    assert_eq!(found.network, NetworkMode::None);
    assert_eq!(found.security, Security::Insecure);
    assert_eq!(run("RUN --network=host x").network, NetworkMode::Host);
    assert_eq!(run("RUN --network=default x").network, NetworkMode::Default);
    assert_eq!(run("RUN x").security, Security::Sandbox);
    for (line, want) in [
        (
            "RUN --network=nnoe x",
            "invalid network mode \"nnoe\" (did you mean none?)",
        ),
        ("RUN --security=x y", "security \"x\" is not valid"),
    ] {
        assert_eq!(refused(line), want);
    }
}

#[test]
fn devices_are_refused_as_the_stable_front_end_does() {
    // row: flag|RUN|--device
    // row: device-option|RUN --device|name
    // row: device-option|RUN --device|required
    for line in [
        "RUN --device=vendor/class=x y",
        "RUN --device=name=x,required y",
    ] {
        assert_eq!(refused(line), "unknown flag: --device");
    }
}

#[test]
fn every_keyword_has_a_type() {
    let lines = [
        "ADD a b",
        "ARG a",
        "CMD a",
        "COPY a b",
        "ENTRYPOINT a",
        "ENV a=b",
        "EXPOSE 1",
        "FROM a",
        "HEALTHCHECK NONE",
        "LABEL a=b",
        "MAINTAINER a",
        "ONBUILD RUN a",
        "RUN a",
        "SHELL [\"a\"]",
        "STOPSIGNAL 9",
        "USER a",
        "VOLUME a",
        "WORKDIR a",
    ];
    for (line, keyword) in lines.iter().zip(KEYWORDS) {
        let file = parse(&format!("FROM scratch\n{line}")).unwrap();
        let found: Vec<&Instruction> = file.instructions().collect();
        assert_eq!(found[1].kind.keyword(), keyword);
    }
}
