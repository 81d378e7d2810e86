//! What the command line shows of a build besides its steps: the checks, and the extras of the language.

use serde_json::Value;

use crate::build::Context;
use crate::daemon;

#[test]
fn checks_are_shown_and_build_nothing() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox AS Stage\nCMD echo x\n")]);
    let path = context.path().to_string_lossy();
    let output = daemon
        .cais_output(&["build", "--check", "-t", "checked", &path])
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("Check complete, 2 warnings have been found!\n"),
        "{text}"
    );
    assert!(
        text.contains("\nWARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/"),
        "{text}"
    );
    assert!(text.contains("   2 | >>> CMD echo x\n"), "{text}");
    assert_eq!(daemon.cais(&["images", "-q", "checked"]).unwrap(), "");
    context.write("Dockerfile", "FROM busybox\n");
    let clean = daemon.cais(&["build", "--check", &path]).unwrap();
    assert_eq!(clean, "Check complete, no warnings found.\n");
    context.write(".dockerignore", "secret\n");
    context.write("Dockerfile", "FROM busybox\nCOPY secret /\n");
    let output = daemon.cais_output(&["build", "--check", &path]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("WARNING: CopyIgnoredFile"), "{text}");
}

#[test]
fn a_directive_says_what_the_checks_of_a_build_do() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nCMD echo x\n")]);
    let path = context.path().to_string_lossy();
    let built = |flags: &[&str]| {
        let args = [&["build", "--progress=quiet"], flags, &[&*path]].concat();
        let output = daemon.cais_output(&args).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), error)
    };
    let (code, error) = built(&[]);
    assert_eq!(code, Some(0));
    assert!(
        error.contains(" 1 warning found:\n - JSONArgsRecommended: JSON arguments recommended"),
        "{error}"
    );
    assert!(error.ends_with(" (line 2)\n"), "{error}");
    context.write("Dockerfile", "# check=skip=all\nFROM busybox\nCMD echo x\n");
    assert_eq!(built(&[]), (Some(0), String::new()));
    context.write(
        "Dockerfile",
        "# check=error=true\nFROM busybox\nCMD echo x\n",
    );
    let (code, error) = built(&[]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("lint violation found for rules: JSONArgsRecommended"),
        "{error}"
    );
    let setting = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended;error=true";
    assert_eq!(built(&[setting]).0, Some(0));
}

#[test]
fn files_are_included_and_optional_ones_copied_where_the_first_line_asks() {
    let daemon = daemon();
    let context = Context::new(&[
        (
            "Dockerfile",
            "# extras=include,if-exists\nFROM busybox\nARG WHO=me\nINCLUDE parts/more\n\
             COPY --if-exists missing here /files/\n",
        ),
        ("parts/more", "RUN echo $WHO >/who\nINCLUDE /parts/env\n"),
        ("parts/env", "ENV INCLUDED=1\n"),
        ("here", "here\n"),
    ]);
    let path = context.path().to_string_lossy();
    daemon.cais(&["build", "-t", "included", &path]).unwrap();
    let script = "cat /who /files/here; echo $INCLUDED";
    let seen = daemon
        .cais(&["run", "--rm", "included", "sh", "-c", script])
        .unwrap();
    assert_eq!(seen, "me\nhere\n1\n");
    let fails = |text: &str| {
        context.write("Dockerfile", text);
        let output = daemon.cais_output(&["build", &path]).unwrap();
        assert_ne!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = fails("# extras=include\nFROM busybox\nINCLUDE nowhere\n");
    assert!(
        error.contains("INCLUDE nowhere: no such file in the build context"),
        "{error}"
    );
    let error = fails("FROM busybox\nINCLUDE parts/env\n");
    assert!(error.contains("unknown instruction: INCLUDE"), "{error}");
    // A link leads nowhere but into the context.
    std::os::unix::fs::symlink("/etc/passwd", context.path().join("link")).unwrap();
    let error = fails("# extras=include\nFROM busybox\nINCLUDE link\n");
    assert!(
        error.contains("no such file in the build context"),
        "{error}"
    );
}

#[test]
fn progress_is_shown_as_buildkit_shows_it() {
    let daemon = daemon();
    let text = "FROM busybox AS first\nRUN echo out; printf '\\033[2Jhalf'\nFROM first\nRUN echo bad >&2; exit 3\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let path = context.path().to_string_lossy();
    let said = |flags: &[&str]| {
        let args = [&["build"], flags, &[&*path]].concat();
        let output = daemon.cais_output(&args).unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        let times = regex_lite::Regex::new(r"\d+\.\d+").unwrap();
        times.replace_all(&error, "T").into_owned()
    };
    let plain = said(&["--progress=plain"]);
    for part in [
        "#2 [first 1/4] FROM busybox AS first\n#2 DONE Ts\n\n",
        "\n#3 T out\n",
        "\n#3 T half\n#3 DONE Ts\n\n#4 [stage-1 3/4] FROM first\n",
        "\n#5 T bad\n#5 ERROR: The command '/bin/sh -c echo bad >&2; exit 3' returned a non-zero code: 3\n",
        "------\n > [stage-1 4/4] RUN echo bad >&2; exit 3:\nT bad\n------\n",
    ] {
        assert!(plain.contains(part), "{part:?} in {plain}");
    }
    assert!(
        said(&[]).contains("\n#3 CACHED\n"),
        "plain where no terminal is"
    );
    let raw = said(&["--progress=rawjson"]);
    let documents = raw.lines().filter(|line| line.starts_with('{'));
    let documents: Vec<Value> = documents
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = &documents.last().unwrap()["vertexes"][0];
    assert_eq!(last["name"], "[stage-1 4/4] RUN echo bad >&2; exit 3");
    assert!(last["error"].as_str().unwrap().contains("non-zero code: 3"));
    let quiet = said(&["--progress=quiet"]);
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    for (mode, error) in [
        (
            "tty",
            "failed to get console: provided file is not a console",
        ),
        ("loud", "invalid progress mode loud"),
    ] {
        let flag = format!("--progress={mode}");
        let output = daemon.cais_output(&["build", &flag, &path]).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && text.contains(error),
            "{text}"
        );
    }
}

#[test]
fn a_terminal_is_drawn_in_place() {
    let daemon = daemon();
    let context = Context::new(&[("Dockerfile", "FROM busybox\nRUN echo out; sleep 0.5\n")]);
    let path = context.path().to_string_lossy();
    let words = format!("{} build {path}", crate::CAIS);
    // script(1) gives the command a terminal.
    let mut command = daemon.client("script", &["-qec", &words, "/dev/null"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(" => => # out"), "{text:?}");
    assert!(
        text.contains("A\r\u{1b}[K[+] Building "),
        "drawn over: {text:?}"
    );
    let last = text.rsplit("[+] Building ").next().unwrap();
    assert!(
        last.contains("(4/4) FINISHED") && !last.contains("# out"),
        "{last:?}"
    );
}
