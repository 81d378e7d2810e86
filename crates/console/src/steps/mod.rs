//! How a build is shown: the daemon's messages become steps with a beginning, output and an end, and a view shows them as
//! BuildKit's clients do.

mod plain;
mod raw;
mod tty;

use std::time::Instant;

use serde_json::Value;

use crate::error::{CliError, Result};
use crate::printer::Printer;
use crate::terminal;

/// Where the way of showing is taken from when no flag says it.
const VARIABLE: &str = "BUILDKIT_PROGRESS";

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    Cached,
    Failed(String),
}

/// Something that takes time.
#[derive(Clone, Debug)]
pub struct Step {
    /// From 1, in the order they begin.
    pub number: usize,
    pub name: String,
    pub begun: Instant,
}

/// Shows steps; one goes on at a time.
trait View {
    fn begin(&mut self, step: &Step);
    /// A line of output, without its end.
    fn line(&mut self, step: &Step, text: &str);
    fn end(&mut self, step: &Step, end: &End);
    /// Nothing follows.
    fn finish(&mut self, failed: bool);
}

/// Shows nothing.
struct Nothing;

impl View for Nothing {
    fn begin(&mut self, _: &Step) {}
    fn line(&mut self, _: &Step, _: &str) {}
    fn end(&mut self, _: &Step, _: &End) {}
    fn finish(&mut self, _: bool) {}
}

/// What is shown of one build.
pub struct Progress {
    view: Box<dyn View>,
    current: Option<Current>,
    /// Steps that have begun.
    count: usize,
    /// The number of the last instruction, and of all.
    at: (usize, usize),
    stage: Stage,
    names: Vec<String>,
}

struct Current {
    step: Step,
    /// Output whose line has not ended.
    rest: String,
    cached: bool,
}

/// The stage that the last FROM began.
#[derive(Default)]
struct Stage {
    /// The platform that it is built for, where there are several.
    target: String,
    count: usize,
    name: String,
}

impl Progress {
    /// By `--progress`, else by the environment.
    ///
    /// # Errors
    /// A way that is not known; a terminal is asked for and standard error is none.
    pub fn new(printer: Printer, flag: &str, quiet: bool) -> Result<Self> {
        let variable = std::env::var(VARIABLE).unwrap_or_default();
        let way = match flag {
            "auto" | "" if !variable.is_empty() => &variable,
            flag => flag,
        };
        let is_terminal = terminal::is_terminal(&std::io::stderr());
        let view: Box<dyn View> = match way {
            "auto" | "plain" | "tty" | "rawjson" | "quiet" | "none" | "" if quiet => {
                Box::new(Nothing)
            }
            "quiet" | "none" => Box::new(Nothing),
            "tty" if !is_terminal => {
                return Err(CliError::new(
                    "failed to get console: provided file is not a console",
                ));
            }
            "tty" => Box::new(tty::Tty::new(printer)),
            "auto" | "" if is_terminal => Box::new(tty::Tty::new(printer)),
            "auto" | "" | "plain" => Box::new(plain::Plain::new(printer)),
            "rawjson" => Box::new(raw::Raw::new(printer)),
            other => return Err(CliError::new(format!("invalid progress mode {other}"))),
        };
        let mut progress = Self {
            view,
            current: None,
            count: 0,
            at: (0, 0),
            stage: Stage::default(),
            names: Vec::new(),
        };
        progress.begin("[internal] load build context".to_owned());
        Ok(progress)
    }

    /// Takes one message of the daemon, unless it is a failure.
    pub fn take(&mut self, message: &Value) {
        if let Some(text) = message["stream"].as_str() {
            self.text(text);
        } else if let Some(status) = message["status"].as_str() {
            let moves = message["progressDetail"]
                .as_object()
                .is_some_and(|detail| !detail.is_empty());
            if !moves {
                let id = message["id"].as_str();
                let id = id.map_or(String::new(), |id| format!("{id}: "));
                self.output(&format!("{id}{status}\n"));
            }
        }
    }

    /// Shows that all has gone well.
    pub fn done(mut self, id: &str) {
        self.end(&End::Done);
        self.begin("exporting to image".to_owned());
        self.output(&format!("writing image {id} done\n"));
        for name in std::mem::take(&mut self.names) {
            self.output(&format!("naming to {name} done\n"));
        }
        self.end(&End::Done);
        self.view.finish(false);
    }

    /// Shows why it has not.
    pub fn failed(mut self, error: &str) {
        self.end(&End::Failed(error.to_owned()));
        self.view.finish(true);
    }

    fn text(&mut self, text: &str) {
        if let Some((number, of, instruction)) = instruction(text)
            && number == self.at.0 + 1
            && (self.at.1 == 0 || self.at.1 == of)
        {
            self.at = (number, of);
            self.end(&End::Done);
            let name = self.name(number, of, instruction);
            self.begin(name);
            return;
        }
        match mark(text) {
            Some(Mark::Cached) => {
                if let Some(current) = &mut self.current {
                    current.cached = true;
                }
            }
            Some(Mark::Tagged(name)) => self.names.push(name.to_owned()),
            Some(Mark::Silent) => {}
            None => self.output(text),
        }
    }

    fn name(&mut self, number: usize, of: usize, instruction: &str) -> String {
        // Of several platforms each step says which it is for.
        let marked = instruction.strip_prefix('[');
        let (platform, instruction) = marked
            .and_then(|rest| rest.split_once("] "))
            .unwrap_or(("", instruction));
        let target = platform.rsplit("->").next().unwrap_or_default();
        if self.stage.target != target {
            self.stage = Stage::default();
            target.clone_into(&mut self.stage.target);
        }
        let mut words = instruction.split_whitespace();
        if words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("FROM"))
        {
            let words: Vec<&str> = words.collect();
            let named = match words[..] {
                [.., keyword, name] if keyword.eq_ignore_ascii_case("AS") => Some(name.to_owned()),
                _ => None,
            };
            let index = self.stage.count;
            self.stage.name = match named {
                Some(name) => format!("{name} "),
                None if index > 0 => format!("stage-{index} "),
                None => String::new(),
            };
            self.stage.count += 1;
        }
        let space = if platform.is_empty() { "" } else { " " };
        let stage = &self.stage.name;
        format!("[{platform}{space}{stage}{number}/{of}] {instruction}")
    }

    fn begin(&mut self, name: String) {
        self.count += 1;
        let step = Step {
            number: self.count,
            name,
            begun: Instant::now(),
        };
        self.view.begin(&step);
        self.current = Some(Current {
            step,
            rest: String::new(),
            cached: false,
        });
    }

    fn output(&mut self, text: &str) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.rest.push_str(text);
        while let Some(end) = current.rest.find('\n') {
            let line: String = current.rest.drain(..=end).collect();
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                self.view.line(&current.step, line);
            }
        }
    }

    fn end(&mut self, end: &End) {
        let Some(current) = self.current.take() else {
            return;
        };
        let rest = current.rest.trim_end();
        // Docker's builders end what came as an error with the colours of before.
        if !harmless(rest).is_empty() {
            self.view.line(&current.step, rest);
        }
        let end = match end {
            End::Done if current.cached => &End::Cached,
            end => end,
        };
        self.view.end(&current.step, end);
    }
}

/// `Step 3/7 : RUN make`.
fn instruction(text: &str) -> Option<(usize, usize, &str)> {
    let (numbers, instruction) = text.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, of) = numbers.split_once('/')?;
    Some((
        number.parse().ok()?,
        of.parse().ok()?,
        instruction.trim_end(),
    ))
}

/// Lines of the classic builder that are no output of a command.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    Cached,
    Tagged(&'a str),
    Silent,
}

fn mark(text: &str) -> Option<Mark<'_>> {
    let line = text.trim_end();
    let is_id = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(arrow) = line.strip_prefix(" ---> ") {
        let did = ["Running in ", "Removed intermediate container "];
        let id = did.iter().find_map(|text| arrow.strip_prefix(text));
        return match arrow {
            "Using cache" => Some(Mark::Cached),
            _ if is_id(id.unwrap_or(arrow)) => Some(Mark::Silent),
            _ => None,
        };
    }
    if let Some(name) = line.strip_prefix("Successfully tagged ") {
        return Some(Mark::Tagged(name));
    }
    let last_word = |prefix: &str| line.strip_prefix(prefix).is_some_and(is_id);
    // As daemons before docker 24 have it.
    let silent = last_word("Removing intermediate container ") || last_word("Successfully built ");
    silent.then_some(Mark::Silent)
}

/// Text without what moves a cursor or clears a screen: it must not draw over what is shown.
fn harmless(text: &str) -> String {
    let text = text
        .rsplit('\r')
        .find(|part| !part.is_empty())
        .unwrap_or("");
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        if char == '\u{1b}' {
            // CSI sequences end with a letter (ECMA-48 5.4).
            if rest.next_if_eq(&'[').is_some() {
                rest.find(|char| ('\u{40}'..='\u{7e}').contains(char));
            }
        } else if char == '\t' || !char.is_control() {
            clean.push(char);
        }
    }
    clean
}

/// The output of a step that failed, once more beside its name.
fn failure(printer: Printer, step: &Step, lines: &[String]) {
    let rule = "------\n";
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    printer.err(&format!("{rule} > {}:\n{lines}{rule}", step.name));
}

#[cfg(test)]
mod tests;
