//! Here-documents: `<<WORD` on the line of an ADD, COPY or RUN, their text below it.

use super::lexer::Lexer;

/// A here-document and its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// The text as it stands in the file, with its line ends.
    pub content: String,
    /// Whether variables in it are expanded: the word was not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines are dropped.
    pub chomp: bool,
    /// The number before `<<`, 0 when there is none.
    pub descriptor: u64,
}

impl Heredoc {
    /// The text, without leading tabs when `<<-` asked for that.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }

    /// Whether a line ends this document.
    pub(super) fn ends_at(&self, line: &str) -> bool {
        let line = if self.chomp {
            line.trim_start_matches('\t')
        } else {
            line
        };
        line == self.name
    }
}

fn unset(_: &str) -> Option<String> {
    None
}

/// The here-document that a word announces; its text is still empty.
pub fn announced(word: &str) -> Option<Heredoc> {
    let (number, rest) = word.split_once("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit());
    if !plain || rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lexer = Lexer {
        keep_unset: true,
        ..Lexer::new('\\')
    };
    let words = lexer.expand(rest, &unset).ok()?.words;
    let [name] = &words[..] else { return None };
    Some(Heredoc {
        name: name.clone(),
        content: String::new(),
        expand: !rest.contains(['\'', '"', '\\']),
        chomp,
        descriptor: if number.is_empty() {
            0
        } else {
            number.parse().ok()?
        },
    })
}

/// The here-documents that a line announces, in order.
pub(super) fn on_line(line: &str) -> Vec<Heredoc> {
    let lexer = Lexer {
        raw_quotes: true,
        raw_escapes: true,
        keep_unset: true,
        ..Lexer::new('\\')
    };
    let words = lexer.expand(line, &unset).map(|found| found.words);
    words
        .unwrap_or_default()
        .iter()
        .filter_map(|word| announced(word))
        .collect()
}
