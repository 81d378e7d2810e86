//! Lines, comments, directives and errors with their place.

use cais_build::dockerfile::instruction::CommandLine;
use cais_build::dockerfile::{Dockerfile, Kind, Lines};

use crate::{body, one, parse, refused, source};

fn run(text: &str) -> CommandLine {
    match one(text) {
        Kind::Run(run) => run.command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn comments_and_blanks() {
    // row: parser|file|comment lines
    // row: parser|file|leading whitespace
    let found = body("# one\n   # two\n\t RUN a \\\n# between\n  # also\n   b # kept\n");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text, "RUN a    b # kept");
    assert_eq!(found[0].lines, Lines { start: 4, end: 7 });
    assert_eq!(found[0].comments, ["one", "two"]);
}

#[test]
fn continued_lines() {
    // row: parser|file|line continuation
    // row: parser|file|empty continuation line
    assert_eq!(run("RUN a \\\n  b\\ \t\nc").words, ["a   bc"]);
    assert_eq!(
        run("RUN a\\\\").words,
        ["a\\\\"],
        "two escapes do not continue"
    );
    assert_eq!(run("RUN a \\").words, ["a"]);
    let found = body("RUN a \\\n\n   \n b");
    assert!(found[0].empty_continuation);
    assert_eq!(found[0].text, "RUN a  b");
    assert!(!body("RUN a \\\n b")[0].empty_continuation);
}

#[test]
fn keywords_of_any_case() {
    // row: parser|file|instruction case
    for keyword in ["run", "RUN", "rUn"] {
        let found = body(&format!("{keyword} a"));
        assert_eq!(found[0].keyword, keyword);
        assert!(matches!(found[0].kind, Kind::Run(_)));
    }
}

#[test]
fn byte_order_mark_and_line_ends() {
    // row: parser|file|UTF-8 BOM
    // row: parser|file|CRLF line ends
    let file = parse("\u{feff}# escape=`\r\nFROM a\r\nRUN b `\r\n c\r\n").unwrap();
    assert_eq!(file.directives.escape, '`');
    assert_eq!(file.stages[0].from.base, "a");
    assert_eq!(file.stages[0].instructions[0].text, "RUN b  c");
}

#[test]
fn exec_and_shell_form() {
    // row: parser|file|exec form
    // row: parser|file|shell form
    let exec = run("RUN [\"a\", \"b c\"]");
    assert_eq!((exec.words.len(), exec.shell), (2, false));
    let shell = run("RUN [ -f x ] && y");
    assert_eq!(
        (shell.words, shell.shell),
        (vec!["[ -f x ] && y".to_owned()], true)
    );
    assert!(run("RUN ['a']").shell);
}

#[test]
fn long_lines_and_empty_files() {
    // row: parser|file|max line length
    // row: parser|file|file without instructions
    let line = format!("RUN {}", "x".repeat(65_531));
    assert_eq!(body(&line).len(), 1);
    let error = parse(&format!("FROM a\n{line}y\n")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "dockerfile parse error on line 2: dockerfile line greater than max allowed size of 65535"
    );
    for text in ["", "\n\n", "# only\n"] {
        assert_eq!(
            parse(text).unwrap_err().to_string(),
            "file with no instructions"
        );
    }
    assert_eq!(
        parse("ARG a").unwrap_err().to_string(),
        "dockerfile contains no stages to build"
    );
    assert_eq!(
        parse("RUN a").unwrap_err().message,
        "no build stage in current context"
    );
}

#[test]
fn ends_of_flags_and_repeated_flags() {
    // row: parser|file|flag terminator --
    // row: parser|file|duplicate flag
    assert_eq!(run("RUN --network=none -- --x").words, ["--x"]);
    assert_eq!(
        refused("COPY --chown=1 --chown=2 a b"),
        "duplicate flag specified: --chown"
    );
    let Kind::Copy(found) = one("COPY --exclude=\"a b\" --exclude=c\\ d x y") else {
        panic!()
    };
    assert_eq!(found.exclude, ["a b", "c d"]);
}

#[test]
fn unknown_instructions() {
    // row: parser|file|unknown instruction
    assert_eq!(
        refused("RUNN x"),
        "unknown instruction: RUNN (did you mean RUN?)"
    );
    assert_eq!(
        refused("cpoy x"),
        "unknown instruction: cpoy (did you mean COPY?)"
    );
    assert_eq!(refused("XYZZY"), "unknown instruction: XYZZY");
}

#[test]
fn errors_show_the_line() {
    let text = "FROM alpine\n\nRUNN echo\n";
    let source = source(text);
    let error = Dockerfile::parse(source.clone()).unwrap_err();
    assert_eq!(
        error.show(&source),
        "Dockerfile:3\n--------------------\n   1 |     FROM alpine\n   2 |     \n   3 | >>> RUNN echo\n   4 |     \n--------------------\nERROR: dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)\n"
    );
}

#[test]
fn descriptions_above() {
    // row: parser|file|definition comment
    let file = parse(
        "# V the version\nARG V=1\n# other\n# base what is below\nFROM a AS base\n# X\n\nARG X",
    )
    .unwrap();
    let pairs: Vec<_> = file.arg_pairs().collect();
    assert_eq!(pairs[0].description.as_deref(), Some("the version"));
    assert_eq!(
        file.stages[0].from.description.as_deref(),
        Some("what is below")
    );
    assert!(file.stages[0].instructions[0].comments.is_empty());
}

#[test]
fn directives() {
    // row: directive|parser|syntax
    // row: directive|parser|escape
    // row: directive|parser|check
    let file = parse(
        "#Syntax = docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM a\nRUN x `\n y \\\n",
    )
    .unwrap();
    let directives = &file.directives;
    assert_eq!(directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(directives.escape, '`');
    assert_eq!(directives.check.as_ref().unwrap().0, "skip=all");
    assert_eq!(file.stages[0].instructions[0].text, "RUN x  y \\");
    for text in [
        "# comment\n# escape=`\nFROM a",
        "\n# escape=`\nFROM a",
        "# other=x\n# escape=`\nFROM a",
    ] {
        assert_eq!(parse(text).unwrap().directives.escape, '\\', "{text}");
    }
    for (text, want) in [
        (
            "# escape=x\nFROM a",
            "invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# escape=`\n# escape=`\nFROM a",
            "only one escape parser directive can be used",
        ),
        (
            "# syntax=a\n# syntax=a\nFROM a",
            "only one syntax parser directive can be used",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().message, want);
    }
}
