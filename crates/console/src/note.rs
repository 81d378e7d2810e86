//! Notes beside a verb's output: `Info -> ...`, in colour on a terminal.

use crate::printer::Printer;
use crate::terminal;

/// Where a note goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What stands before a note on a terminal, and elsewhere.
const COLOURED: &str = "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m";
const PLAIN: &str = " Info -> ";

/// Lines after the first stand below it.
const INDENT: &str = "\n         ";

/// Prints a note, an empty line before it. Words between `*` are bold, those between `_` underlined, on a terminal.
pub fn print(printer: Printer, target: Target, text: &str) {
    let coloured = match target {
        Target::Stdout => terminal::is_terminal(&std::io::stdout()),
        Target::Stderr => terminal::is_terminal(&std::io::stderr()),
    };
    let shown = render(text, coloured);
    match target {
        Target::Stdout => printer.out(&shown),
        Target::Stderr => printer.err(&shown),
    }
}

fn render(text: &str, coloured: bool) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            if coloured {
                let line = marked(&marked(line, '*', "\x1b[1m"), '_', "\x1b[4m");
                format!("\x1b[3m{line}\x1b[0m")
            } else {
                line.replace(['*', '_'], "")
            }
        })
        .collect();
    let head = if coloured { COLOURED } else { PLAIN };
    format!("\n{head}{}\n", lines.join(INDENT))
}

fn marked(line: &str, mark: char, begin: &str) -> String {
    let mut shown = String::new();
    for (number, part) in line.split(mark).enumerate() {
        if number % 2 == 1 {
            shown.push_str(&format!("{begin}{part}\x1b[0m"));
        } else {
            shown.push_str(part);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_look_as_dockers() {
        assert_eq!(
            render("Using *--x* pushes\nmore", false),
            "\n Info -> Using --x pushes\n         more\n"
        );
        assert_eq!(
            render("Using *--x* pushes\nmore", true),
            "\n\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m\x1b[3mUsing \x1b[1m--x\x1b[0m pushes\
             \x1b[0m\n         \x1b[3mmore\x1b[0m\n"
        );
    }
}
