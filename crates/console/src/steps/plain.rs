//! Line by line, for logs and pipes.

use std::collections::VecDeque;

use super::{End, Step, View, failure, harmless};
use crate::printer::Printer;

/// Lines of a step that failed that are shown once more.
const KEPT: usize = 20;

pub struct Plain {
    printer: Printer,
    kept: VecDeque<String>,
}

impl Plain {
    pub fn new(printer: Printer) -> Self {
        Self {
            printer,
            kept: VecDeque::new(),
        }
    }
}

impl View for Plain {
    fn begin(&mut self, step: &Step) {
        self.kept.clear();
        self.printer
            .err(&format!("#{} {}\n", step.number, step.name));
    }

    fn line(&mut self, step: &Step, text: &str) {
        let line = format!(
            "{:.3} {}",
            step.begun.elapsed().as_secs_f64(),
            harmless(text)
        );
        self.printer.err(&format!("#{} {line}\n", step.number));
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    fn end(&mut self, step: &Step, end: &End) {
        let text = match end {
            End::Done => format!("DONE {:.1}s", step.begun.elapsed().as_secs_f64()),
            End::Cached => "CACHED".to_owned(),
            End::Failed(error) => format!("ERROR: {error}"),
        };
        self.printer.err(&format!("#{} {text}\n", step.number));
        if matches!(end, End::Failed(_)) {
            failure(self.printer, step, self.kept.make_contiguous());
        } else {
            self.printer.err("\n");
        }
    }

    fn finish(&mut self, _: bool) {}
}
