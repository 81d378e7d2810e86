//! The extras, which need a first line that asks for them.

use cais_build::dockerfile::{Dockerfile, Kind, ParseError};

use crate::{parse, source};

fn with_files(text: &str, files: &[(&str, &str)]) -> Result<Dockerfile, ParseError> {
    Dockerfile::parse_with(source(text), &mut |path| {
        let file = files.iter().find(|(name, _)| *name == path);
        file.map(|(_, text)| (*text).to_owned())
            .ok_or_else(|| "no such file".to_owned())
    })
}

#[test]
fn include_takes_the_place_of_the_other_files_instructions() {
    let files = [("a", "RUN a\nINCLUDE b\n"), ("b", "RUN \\\n\n b\n")];
    let file = with_files("# extras=include\nFROM x\nINCLUDE a\nRUN c", &files).unwrap();
    let found: Vec<_> = file.stages[0]
        .instructions
        .iter()
        .map(|found| (found.text.as_str(), found.file.as_deref()))
        .collect();
    assert_eq!(
        found,
        [("RUN a", Some("a")), ("RUN  b", Some("b")), ("RUN c", None)]
    );
}

#[test]
fn include_without_the_directive_is_unknown() {
    for text in [
        "FROM x\nINCLUDE a",
        "# x\n# extras=include\nFROM x\nINCLUDE a",
    ] {
        let error = with_files(text, &[("a", "RUN a")]).unwrap_err();
        assert_eq!(error.message, "unknown instruction: INCLUDE");
    }
}

#[test]
fn errors_of_included_files_name_the_file_and_rings_end() {
    let head = "# extras=include\nFROM x\nINCLUDE a";
    let error = with_files(head, &[("a", "RUN 1\nXYZZY")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "dockerfile parse error in a on line 2: unknown instruction: XYZZY"
    );
    let error = with_files(head, &[("a", "INCLUDE a")]).unwrap_err();
    assert!(error.message.starts_with("too many files"), "{error}");
    let error = with_files(head, &[]).unwrap_err();
    assert_eq!(error.message, "INCLUDE a: no such file");
}

#[test]
fn copy_if_exists_needs_the_directive() {
    let copy = "FROM x\nCOPY --if-exists a b";
    let error = parse(copy).unwrap_err();
    assert_eq!(error.message, "unknown flag: --if-exists");
    let file = parse(&format!("# extras=if-exists\n{copy}")).unwrap();
    let Kind::Copy(transfer) = &file.stages[0].instructions[0].kind else {
        panic!()
    };
    assert!(transfer.if_exists);
    let error = parse(&format!("# extras=nope\n{copy}")).unwrap_err();
    assert!(error.message.starts_with("unknown extra \"nope\""));
}
