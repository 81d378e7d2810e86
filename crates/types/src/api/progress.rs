//! What a pull or a push tells, as a line of Docker's JSON messages.

use serde_json::{Value, json};

use crate::Digest;
use crate::human::human_size;

/// Places of the bar.
const BAR: usize = 50;

/// What a transfer tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferEvent {
    /// A line; with an id, Docker prints it and a colon first.
    Message { id: Option<String>, status: String },
    /// A step of a layer; `bar` is how many bytes of how many are done, for the steps that have one.
    Layer {
        id: String,
        status: String,
        bar: Option<(u64, u64)>,
    },
    /// A manifest has arrived.
    Pushed {
        tag: String,
        digest: Digest,
        size: u64,
    },
}

impl TransferEvent {
    /// The line, without its end.
    pub fn line(&self) -> Vec<u8> {
        let value = match self {
            Self::Message { id, status } => {
                let mut line = json!({ "status": status });
                if let Some(id) = id {
                    line["id"] = json!(id);
                }
                line
            }
            Self::Layer {
                id,
                status,
                bar: None | Some((0, 0)),
            } => json!({ "status": status, "progressDetail": {}, "id": id }),
            Self::Layer {
                id,
                status,
                bar: Some((current, total)),
            } => json!({
                "status": status,
                "progressDetail": detail(*current, *total),
                "progress": bar(*current, *total),
                "id": id,
            }),
            Self::Pushed { tag, digest, size } => json!({
                "progressDetail": {},
                "aux": { "Tag": tag, "Digest": digest, "Size": size },
            }),
        };
        value.to_string().into_bytes()
    }
}

/// Numbers that are zero are left out.
fn detail(current: u64, total: u64) -> Value {
    let mut detail = json!({});
    for (name, value) in [("current", current), ("total", total)] {
        if value > 0 {
            detail[name] = json!(value);
        }
    }
    detail
}

/// `[=====>     ]  1.5MB/15MB`, for a terminal of unknown width.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn bar(current: u64, total: u64) -> String {
    let size = |bytes: u64| human_size(bytes as f64);
    if total == 0 {
        return format!("{:>8}", size(current));
    }
    let done = u128::from(current) * BAR as u128 / u128::from(total);
    let done = usize::try_from(done).map_or(BAR, |done| done.min(BAR));
    let (full, empty) = ("=".repeat(done), " ".repeat(BAR - done));
    if current > total {
        return format!("[{full}>{empty}] {:>8}", size(current));
    }
    format!("[{full}>{empty}] {:>8}/{}", size(current), size(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &TransferEvent) -> String {
        String::from_utf8(event.line()).unwrap()
    }

    #[test]
    fn lines_are_dockers() {
        let layer = |status: &str, bar| TransferEvent::Layer {
            id: "0123456789ab".to_owned(),
            status: status.to_owned(),
            bar,
        };
        let message = |id: Option<&str>, status: &str| TransferEvent::Message {
            id: id.map(str::to_owned),
            status: status.to_owned(),
        };
        for (event, want) in [
            (
                message(Some("latest"), "Pulling from library/busybox"),
                r#"{"status":"Pulling from library/busybox","id":"latest"}"#,
            ),
            (message(None, "Digest: x"), r#"{"status":"Digest: x"}"#),
            (
                layer("Pulling fs layer", None),
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}"#,
            ),
            (
                layer("Downloading", Some((32_768, 2_811_969))),
                r#"{"status":"Downloading","progressDetail":{"current":32768,"total":2811969},"progress":"[>                                                  ]  32.77kB/2.812MB","id":"0123456789ab"}"#,
            ),
            (
                layer("Extracting", Some((10, 10))),
                r#"{"status":"Extracting","progressDetail":{"current":10,"total":10},"progress":"[==================================================>]      10B/10B","id":"0123456789ab"}"#,
            ),
            (
                layer("Pushing", Some((512, 0))),
                r#"{"status":"Pushing","progressDetail":{"current":512},"progress":"    512B","id":"0123456789ab"}"#,
            ),
        ] {
            assert_eq!(text(&event), want);
        }
        let digest = crate::Digest::from_bytes([1; 32]);
        let pushed = TransferEvent::Pushed {
            tag: "1".to_owned(),
            digest,
            size: 5,
        };
        assert_eq!(
            text(&pushed),
            format!(
                r#"{{"progressDetail":{{}},"aux":{{"Tag":"1","Digest":"{digest}","Size":5}}}}"#
            )
        );
    }
}
