//! Where errors go: as runc's log writes them, so that containerd and conmon find the last one.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::FaceError;
use super::arguments::Arguments;
use crate::timestamp::Timestamp;

/// The log of one command.
#[derive(Clone, Debug, Default)]
pub struct Log {
    file: Option<String>,
    json: bool,
}

impl Log {
    /// As the flags say.
    pub fn new(global: &Arguments) -> Self {
        Self {
            file: global.value("log").map(str::to_owned),
            json: global.value("log-format") == Some("json"),
        }
    }

    /// Writes down why the command failed; answers its exit code.
    pub fn fail(&self, error: &FaceError) -> i32 {
        let text = error.to_string();
        self.write("error", &text);
        if self.file.is_some() {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        match error {
            FaceError::Exec(_) => 255,
            _ => 1,
        }
    }

    /// Something that is no reason to fail.
    pub fn warn(&self, text: &str) {
        self.write("warning", text);
    }

    fn write(&self, level: &str, text: &str) {
        let mut time = Vec::new();
        Timestamp::now().push_rfc3339_nano(&mut time);
        let time = String::from_utf8_lossy(&time);
        let text = serde_json::Value::from(text);
        let line = if self.json {
            format!("{{\"level\":\"{level}\",\"msg\":{text},\"time\":\"{time}\"}}\n")
        } else {
            format!("time=\"{time}\" level={level} msg={text}\n")
        };
        // Nobody is left to tell of a log that cannot be written.
        match &self.file {
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
            }
            None => {
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    }
}
