//! For a terminal: a line for each step, and below the one that goes on the last lines of its output, drawn again in place.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{End, Step, View, failure, harmless};
use crate::printer::Printer;
use crate::terminal;

/// Lines of output below the step that goes on.
const WINDOW: usize = 6;
/// Lines of a step that failed that are shown once more.
const KEPT: usize = 20;
/// How often the clock moves.
const TICK: Duration = Duration::from_millis(100);
/// Lines and columns where the terminal does not say.
const SIZE: (u16, u16) = (24, 80);

enum Event {
    Begin(Step),
    Line(String),
    End(End),
    Finish(bool),
}

/// Passes everything to a thread, so that the clock moves while nothing comes.
pub struct Tty {
    events: Sender<Event>,
    drawing: Option<JoinHandle<()>>,
}

impl Tty {
    pub fn new(printer: Printer) -> Self {
        let (events, incoming) = channel();
        let drawing = std::thread::spawn(move || Screen::new(printer).run(&incoming));
        Self {
            events,
            drawing: Some(drawing),
        }
    }

    fn tell(&self, event: Event) {
        // The thread ends with the last event only.
        let _ = self.events.send(event);
    }
}

impl View for Tty {
    fn begin(&mut self, step: &Step) {
        self.tell(Event::Begin(step.clone()));
    }

    fn line(&mut self, _: &Step, text: &str) {
        self.tell(Event::Line(harmless(text)));
    }

    fn end(&mut self, _: &Step, end: &End) {
        self.tell(Event::End(end.clone()));
    }

    fn finish(&mut self, failed: bool) {
        self.tell(Event::Finish(failed));
        if let Some(drawing) = self.drawing.take() {
            let _ = drawing.join();
        }
    }
}

struct Row {
    step: Step,
    end: Option<(End, Duration)>,
    output: VecDeque<String>,
}

pub(super) struct Screen {
    printer: Printer,
    colors: bool,
    begun: Instant,
    rows: Vec<Row>,
    /// Lines on the screen that are drawn over.
    drawn: usize,
}

impl Screen {
    pub(super) fn new(printer: Printer) -> Self {
        Self {
            printer,
            colors: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            begun: Instant::now(),
            rows: Vec::new(),
            drawn: 0,
        }
    }

    fn run(mut self, incoming: &Receiver<Event>) {
        loop {
            let failed = match incoming.recv_timeout(TICK) {
                Ok(Event::Finish(failed)) => Some(failed),
                Ok(event) => {
                    self.take(event);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(true),
            };
            let size = terminal::size(&std::io::stderr()).unwrap_or(SIZE);
            let text = self.draw(size, failed.is_some());
            self.printer.err(&text);
            if let Some(failed) = failed {
                self.tell_failure(failed);
                return;
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Begin(step) => self.rows.push(Row {
                step,
                end: None,
                output: VecDeque::new(),
            }),
            Event::Line(text) => {
                if let Some(row) = self.rows.last_mut() {
                    if row.output.len() == KEPT {
                        row.output.pop_front();
                    }
                    row.output.push_back(text);
                }
            }
            Event::End(end) => {
                if let Some(row) = self.rows.last_mut() {
                    row.end = Some((end, row.step.begun.elapsed()));
                }
            }
            Event::Finish(_) => {}
        }
    }

    /// The text that brings the screen up to date. What does not fit is left out at the top, until the end shows all.
    fn draw(&mut self, (height, width): (u16, u16), finished: bool) -> String {
        let width = usize::from(width.max(20));
        let mut lines = Vec::new();
        for row in &self.rows {
            lines.push(self.row(row, width));
            let shown = row.output.len().saturating_sub(WINDOW);
            if row.end.is_none() {
                let output = row.output.iter().skip(shown);
                lines.extend(
                    output.map(|line| self.painted("2", &cut(&format!(" => => # {line}"), width))),
                );
            }
        }
        let room = usize::from(height).saturating_sub(2);
        if !finished && lines.len() > room {
            lines.drain(..lines.len() - room);
        }
        lines.insert(0, self.head(finished));
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\u{1b}[{}A", self.drawn);
        }
        for line in &lines {
            let _ = write!(text, "\r\u{1b}[K{line}\n");
        }
        // What was longer before is cleared.
        text.push_str("\u{1b}[J");
        self.drawn = lines.len();
        text
    }

    fn head(&self, finished: bool) -> String {
        let ended = self.rows.iter().filter(|row| row.end.is_some()).count();
        let state = if finished { " FINISHED" } else { "" };
        let seconds = self.begun.elapsed().as_secs_f64();
        format!(
            "[+] Building {seconds:.1}s ({ended}/{}){state}",
            self.rows.len()
        )
    }

    fn row(&self, row: &Row, width: usize) -> String {
        let (mark, color, took) = match &row.end {
            None => ("", None, row.step.begun.elapsed()),
            Some((End::Cached, took)) => ("CACHED ", Some("34"), *took),
            Some((End::Done, took)) => ("", Some("34"), *took),
            Some((End::Failed(_), took)) => ("ERROR ", Some("31"), *took),
        };
        let time = format!("{:.1}s", took.as_secs_f64());
        let room = width.saturating_sub(time.len() + 2);
        let name = cut(&format!(" => {mark}{}", row.step.name), room);
        let line = format!("{name:room$} {time}");
        match color {
            Some(color) => self.painted(color, &line),
            None => line,
        }
    }

    fn painted(&self, color: &str, text: &str) -> String {
        if self.colors {
            format!("\u{1b}[{color}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn tell_failure(&mut self, failed: bool) {
        if let Some(row) = self.rows.last_mut().filter(|_| failed) {
            failure(self.printer, &row.step, row.output.make_contiguous());
        }
    }
}

/// As much as fits into this many columns.
fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_itself() {
        let mut screen = Screen::new(Printer);
        screen.colors = false;
        let step = |number: usize, name: &str| Step {
            number,
            name: name.to_owned(),
            begun: Instant::now(),
        };
        screen.take(Event::Begin(step(1, "[1/2] FROM busybox")));
        screen.take(Event::End(End::Cached));
        screen.take(Event::Begin(step(2, "[2/2] RUN a command that is long")));
        for number in 0..9 {
            screen.take(Event::Line(format!("line {number}")));
        }
        let first = screen.draw((24, 30), false);
        assert!(
            !first.contains("\u{1b}[9A"),
            "nothing is there to be drawn over"
        );
        let lines: Vec<&str> = first
            .lines()
            .map(|line| line.trim_start_matches("\r\u{1b}[K"))
            .collect();
        assert!(
            lines[0].starts_with("[+] Building ") && lines[0].ends_with("s (1/2)"),
            "{first:?}"
        );
        assert!(lines[1].starts_with(" => CACHED [1/2] FROM b"), "{first:?}");
        assert!(lines[2].starts_with(" => [2/2] RUN a command"), "{first:?}");
        assert!(lines[1..3].iter().all(|line| line.len() == 29), "{first:?}");
        assert_eq!(lines[3], " => => # line 3");
        assert_eq!(lines[8], " => => # line 8");
        assert_eq!(lines[9], "\u{1b}[J");
        screen.take(Event::End(End::Done));
        let last = screen.draw((24, 30), true);
        assert!(last.starts_with("\u{1b}[9A"), "{last:?}");
        assert!(last.contains("(2/2) FINISHED"), "{last:?}");
        assert!(!last.contains("line 8"), "{last:?}");
        let small = screen.draw((3, 30), false);
        assert_eq!(small.lines().count(), 3, "{small:?}");
    }
}
