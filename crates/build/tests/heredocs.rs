//! Here-documents.

use cais_build::dockerfile::command::Program;
use cais_build::dockerfile::instruction::{CommandLine, Transfer};
use cais_build::dockerfile::{Dockerfile, Kind};

use crate::{body, one, refused, source};

fn run(text: &str) -> CommandLine {
    match one(text) {
        Kind::Run(run) => run.command,
        other => panic!("{other:?}"),
    }
}

fn copy(text: &str) -> Transfer {
    match one(text) {
        Kind::Copy(transfer) | Kind::Add(transfer) => transfer,
        other => panic!("{other:?}"),
    }
}

fn program(text: &str) -> Program {
    run(text).program(&["/bin/sh".to_owned(), "-c".to_owned()])
}

fn shell(text: &str) -> Program {
    Program::Argv(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

#[test]
fn a_copied_document_becomes_a_file() {
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|COPY/ADD <<WORD dest
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|<<WORD
    for keyword in ["COPY", "ADD"] {
        let found = copy(&format!("{keyword} a <<EOF /dir/\nhello $x\n# kept\n\nEOF"));
        assert_eq!(found.sources, ["a"]);
        assert_eq!(found.destination, "/dir/");
        let [document] = &found.documents[..] else {
            panic!("{found:?}")
        };
        assert_eq!(document.name, "EOF");
        assert_eq!(document.text(), "hello $x\n# kept\n\n");
        assert!(document.expand && !document.chomp);
        assert_eq!(
            refused(&format!("{keyword} a <<EOF\nx\nEOF")),
            format!("{keyword} cannot accept a heredoc as a destination")
        );
    }
}

#[test]
fn a_dash_drops_leading_tabs_and_quotes_keep_variables() {
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|<<-WORD
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|<<"WORD" or <<'WORD'
    let found = copy("COPY <<-EOF /f\n\t\tone\n  two\n\tEOF");
    assert_eq!(found.documents[0].text(), "one\n  two\n");
    for word in ["\"EOF\"", "'EOF'", "E\"O\"F"] {
        let found = copy(&format!("COPY <<{word} /f\n$x\nEOF"));
        assert!(!found.documents[0].expand, "{word}");
        assert_eq!(found.documents[0].text(), "$x\n");
    }
}

#[test]
fn numbers_and_several_documents_on_a_line() {
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|N<<WORD
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|multiple heredocs on one line
    let found = run("RUN cat 3<<THREE <<ZERO\n3\nTHREE\n0\nZERO");
    let numbers: Vec<_> = found
        .heredocs
        .iter()
        .map(|document| (document.descriptor, document.content.as_str()))
        .collect();
    assert_eq!(numbers, [(3, "3\n"), (0, "0\n")]);
    let found = copy("COPY <<A <<B /d/\na\nA\nb\nB");
    let names: Vec<_> = found
        .documents
        .iter()
        .map(|found| found.name.as_str())
        .collect();
    assert_eq!(names, ["A", "B"]);
}

#[test]
fn run_takes_a_document_as_script_or_as_input() {
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|RUN <<WORD alone
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|RUN <<WORD with #! line
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|RUN <<WORD cmd
    assert_eq!(
        program("RUN <<EOF\necho 1\necho 2\nEOF"),
        shell("echo 1\necho 2\n")
    );
    assert_eq!(
        program("RUN <<-EOF\n\t#!/usr/bin/env python3\n\tprint()\n\tEOF"),
        Program::Script("#!/usr/bin/env python3\nprint()\n".to_owned())
    );
    assert_eq!(program("RUN <<EOF cat\nx\nEOF"), shell("<<EOF cat\nx\nEOF"));
    assert_eq!(program("RUN cat <<EOF\nx\nEOF"), shell("cat <<EOF\nx\nEOF"));
}

#[test]
fn a_trigger_keeps_its_document() {
    // row: heredoc|ADD,COPY,RUN (ONBUILD)|heredoc in ONBUILD
    let Kind::Onbuild(trigger) = one("ONBUILD RUN <<EOF\necho\nEOF") else {
        panic!()
    };
    assert_eq!(trigger, "RUN <<EOF\necho\nEOF");
    let inner = run(&trigger);
    assert_eq!(inner.heredocs[0].content, "echo\n");
}

#[test]
fn no_document_where_none_is_meant() {
    assert!(run("RUN [\"echo\", \"<<EOF\"]").heredocs.is_empty());
    assert!(run("RUN echo '<<EOF' \"<<X\"").heredocs.is_empty());
    assert!(run("RUN cat <<<word").heredocs.is_empty());
    assert!(matches!(one("CMD cat <<EOF"), Kind::Cmd(command) if command.heredocs.is_empty()));
    assert_eq!(refused("RUN <<EOF\nno end"), "unterminated heredoc");
    let error = Dockerfile::parse(source("FROM a\nRUN <<EOF\nx")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "dockerfile parse error on line 2: unterminated heredoc"
    );
    assert_eq!(body("RUN <<EOF\nFROM x\nEOF\nRUN y").len(), 2);
}
