//! What the command line shows of a build besides its steps: the checks, and the extras of the language.

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
        let args = [&["build"], flags, &[&*path]].concat();
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
