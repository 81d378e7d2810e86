//! One JSON document a line, as BuildKit's `rawjson`: `vertexes` that begin and end, and `logs`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{End, Step, View};
use crate::printer::Printer;

pub struct Raw {
    printer: Printer,
    begun: Timestamp,
}

impl Raw {
    pub fn new(printer: Printer) -> Self {
        Self {
            printer,
            begun: Timestamp::now(),
        }
    }

    fn vertex(&self, step: &Step) -> Value {
        json!({ "digest": digest(step), "name": step.name, "started": self.begun.to_string() })
    }

    fn tell(&self, document: &Value) {
        self.printer.err(&format!("{document}\n"));
    }
}

/// Stands for the step in all documents; as long as a digest, because readers parse it as one.
fn digest(step: &Step) -> String {
    format!("sha256:{:064x}", step.number)
}

impl View for Raw {
    fn begin(&mut self, step: &Step) {
        self.begun = Timestamp::now();
        self.tell(&json!({ "vertexes": [self.vertex(step)] }));
    }

    fn line(&mut self, step: &Step, text: &str) {
        let data = BASE64_STANDARD.encode(format!("{text}\n"));
        let now = Timestamp::now().to_string();
        let log = json!({ "vertex": digest(step), "stream": 1, "data": data, "timestamp": now });
        self.tell(&json!({ "logs": [log] }));
    }

    fn end(&mut self, step: &Step, end: &End) {
        let mut vertex = self.vertex(step);
        vertex["completed"] = json!(Timestamp::now().to_string());
        match end {
            End::Done => {}
            End::Cached => vertex["cached"] = json!(true),
            End::Failed(error) => vertex["error"] = json!(error),
        }
        self.tell(&json!({ "vertexes": [vertex] }));
    }

    fn finish(&mut self, _: bool) {}
}
