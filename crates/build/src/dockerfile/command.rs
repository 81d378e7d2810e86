//! What a command line runs, once the shell is known.

use super::heredoc;
use super::instruction::CommandLine;

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    Argv(Vec<String>),
    /// A here-document with a `#!` line, run as a file of its own.
    Script(String),
}

impl CommandLine {
    /// The program: exec form as it is, shell form behind the shell, with its here-documents.
    pub fn program(&self, shell: &[String]) -> Program {
        if !self.shell {
            return Program::Argv(self.words.clone());
        }
        let line = self.words.first().map_or("", String::as_str);
        let behind = |text: String| Program::Argv([shell, &[text]].concat());
        if let [document] = &self.heredocs[..]
            && heredoc::announced(line).is_some()
        {
            let text = document.text();
            return if text.starts_with("#!") {
                Program::Script(text)
            } else {
                behind(text)
            };
        }
        let mut text = line.to_owned();
        for document in &self.heredocs {
            text.push('\n');
            text.push_str(&document.content);
            text.push_str(&document.name);
        }
        behind(text)
    }
}
