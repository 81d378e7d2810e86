//! No input makes the language panic, hang, or use up the stack.

use cais_build::dockerfile::directive::syntax_of;
use cais_build::dockerfile::git_ref::GitRef;
use cais_build::dockerfile::ignore::Ignore;
use cais_build::dockerfile::lexer::Lexer;
use cais_build::dockerfile::lint::{self, CheckInput};
use cais_build::dockerfile::path_pattern::PathPattern;
use cais_build::dockerfile::{Dockerfile, Kind, Mount, outline, scope::Arguments};
use proptest::prelude::*;

use crate::source;

/// Texts made of what means something in Dockerfiles.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM",
        "a",
        "AS",
        "x",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "ONBUILD",
        "HEALTHCHECK",
        "CMD",
        "SHELL",
        "EXPOSE",
        "LABEL",
        "VOLUME",
        "# check=",
        "# escape=`",
        "--from=0",
        "--mount=",
        "type=cache,",
        "target=/",
        "<<",
        "<<-",
        "EOF",
        "'",
        "\"",
        "\\",
        "`",
        "$",
        "${",
        "}",
        ":-",
        ":?",
        "##",
        "%%",
        "/",
        "//",
        "*",
        "**",
        "?",
        "[",
        "]",
        "^",
        "-",
        "!",
        "{",
        ",",
        "=",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\u{feff}",
        "é",
        "\0",
        "\u{2028}",
        "scratch",
        "80/TCP",
        ";",
        "&",
        "..",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn value(name: &str) -> Option<String> {
    name.len().is_multiple_of(2).then(|| name.repeat(3))
}

/// Everything that reads a file.
fn read(text: &str) {
    let _ = syntax_of(text.as_bytes());
    let Ok(file) = Dockerfile::parse(source(text)) else {
        return;
    };
    let ignore = Ignore::parse("*\n!a").ok();
    let input = CheckInput {
        ignore: ignore.as_ref(),
        ..CheckInput::default()
    };
    if let Ok(report) = lint::check(&file, &input) {
        let _ = report.show(&file.source);
    }
    let _ = outline::targets(&file);
    let _ = outline::outline(&file, file.stages.len() - 1, &Arguments::default());
    for instruction in file.instructions() {
        if let Kind::Run(run) = &instruction.kind {
            let _ = run.command.program(&[]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn files(text in pieces(), head in prop::bool::ANY) {
        let text = if head { format!("FROM scratch\n{text}") } else { text };
        match Dockerfile::parse(source(&text)) {
            Err(error) => { let _ = error.show(&source(&text)); }
            Ok(_) => read(&text),
        }
    }

    #[test]
    fn bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn words(text in pieces(), escape in prop::sample::select(vec!['\\', '`'])) {
        let lexer = Lexer::new(escape);
        for lexer in [lexer, Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..lexer }] {
            let _ = lexer.expand(&text, &value);
        }
        let _ = Mount::parse(&text, &|word| Ok(word.to_owned()));
        let _ = GitRef::parse(&text);
    }

    #[test]
    fn ignore_files(text in pieces(), path in pieces()) {
        if let Ok(ignore) = Ignore::parse(&text) {
            let _ = ignore.ignores(&path);
            let _ = ignore.may_except_below(&path);
        }
    }

    /// A pattern without special letters matches its own text and nothing else.
    #[test]
    fn plain_patterns(text in "[a-z/.]{0,12}", other in "[a-z/.]{0,12}") {
        let pattern = PathPattern::with_double_star(&text).unwrap();
        prop_assert!(pattern.matches(&text));
        prop_assert_eq!(pattern.matches(&other), text == other);
    }

    /// What is quoted in single quotes comes out as it went in.
    #[test]
    fn quoted_words(text in "[^']{0,20}") {
        let expansion = Lexer::new('\\').expand(&format!("'{text}'"), &value).unwrap();
        prop_assert_eq!(expansion.text, text);
    }
}

#[test]
fn long_patterns_end() {
    let stars = "*a".repeat(200);
    let path = "a".repeat(4000);
    assert!(!Ignore::parse(&format!("{stars}b")).unwrap().ignores(&path));
    let word = format!("${{long//{stars}b/}}");
    let long = |_: &str| Some("a".repeat(2000));
    assert_eq!(
        Lexer::new('\\').expand(&word, &long).unwrap().text.len(),
        2000
    );
}
