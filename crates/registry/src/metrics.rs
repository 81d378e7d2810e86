//! Counters in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::gc::Collected;
use super::store::Store;

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(String, &'static str, u16), Requests>>,
    received: AtomicU64,
    sent: AtomicU64,
    connections: AtomicU64,
    collections: AtomicU64,
    collected_files: AtomicU64,
    collected_bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    count: u64,
    seconds: f64,
}

/// Methods that get a row of their own; a client must not make rows at will.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

impl Metrics {
    /// A request was answered.
    pub fn request(&self, method: &str, noun: &'static str, status: u16, took: Duration) {
        let method = if METHODS.contains(&method) {
            method
        } else {
            "other"
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let row = requests
            .entry((method.to_owned(), noun, status))
            .or_default();
        row.count += 1;
        row.seconds += took.as_secs_f64();
    }

    /// Bytes of blobs came in.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// An answer with so many bytes began.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A client connected; give it back with [`Metrics::disconnected`].
    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A client is gone.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A collection ended.
    pub fn collected(&self, collected: &Collected) {
        self.collections.fetch_add(1, Ordering::Relaxed);
        self.collected_files
            .fetch_add(collected.files, Ordering::Relaxed);
        self.collected_bytes
            .fetch_add(collected.bytes, Ordering::Relaxed);
    }

    /// Everything as text.
    pub fn render(&self, store: &Store) -> String {
        let mut text = String::new();
        self.render_requests(&mut text);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (repositories, files, bytes) = store.read(|index| {
            let bytes = index.files.values().map(|file| file.size).sum::<u64>();
            (index.repositories.len(), index.files.len(), bytes)
        });
        let rows: [(&str, &str, u64); 10] = [
            ("received_bytes_total", "counter", load(&self.received)),
            ("sent_bytes_total", "counter", load(&self.sent)),
            ("connections", "gauge", load(&self.connections)),
            ("uploads", "gauge", store.session_count() as u64),
            ("repositories", "gauge", repositories as u64),
            ("content_files", "gauge", files as u64),
            ("content_bytes", "gauge", bytes),
            ("gc_runs_total", "counter", load(&self.collections)),
            ("gc_files_total", "counter", load(&self.collected_files)),
            ("gc_bytes_total", "counter", load(&self.collected_bytes)),
        ];
        for (name, kind, value) in rows {
            row(&mut text, name, kind, value);
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        let requests = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let _ = writeln!(text, "# TYPE cais_registry_requests_total counter");
        for ((method, noun, status), row) in &requests {
            let _ = writeln!(
                text,
                "cais_registry_requests_total{{method=\"{method}\",noun=\"{noun}\",status=\"{status}\"}} {}",
                row.count
            );
        }
        let _ = writeln!(text, "# TYPE cais_registry_request_seconds_total counter");
        for ((method, noun, status), row) in &requests {
            let _ = writeln!(
                text,
                "cais_registry_request_seconds_total{{method=\"{method}\",noun=\"{noun}\",status=\"{status}\"}} {:.6}",
                row.seconds
            );
        }
    }
}

fn row(text: &mut String, name: &str, kind: &str, value: u64) {
    let _ = writeln!(text, "# TYPE cais_registry_{name} {kind}");
    let _ = writeln!(text, "cais_registry_{name} {value}");
}
