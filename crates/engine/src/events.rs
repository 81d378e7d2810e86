//! The bus of events: a bounded history and live subscribers. Every service of the engine publishes here; `/events` reads.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cais_types::api::query::{EventsQuery, Filters};
use cais_types::api::{Actor, EventMessage};
use cais_types::{ContainerId, Error, Result};
use futures_core::Stream;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::ports::NetworkFacts;
use crate::record::Record;

/// Events kept for `since`, as many as Docker keeps.
const HISTORY: usize = 256;
/// Events a slow subscriber may fall behind before it loses some.
const BACKLOG: usize = 4096;

/// A stream of events.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EventMessage>> + Send>>;

/// The bus.
pub struct Events {
    history: Mutex<VecDeque<Arc<EventMessage>>>,
    live: broadcast::Sender<Arc<EventMessage>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            history: Mutex::new(VecDeque::new()),
            live: broadcast::Sender::new(BACKLOG),
        }
    }
}

impl Events {
    /// Publishes an event of any kind of object.
    pub fn publish(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let now = jiff::Timestamp::now();
        let mut message = EventMessage {
            kind: kind.to_owned(),
            action: action.to_owned(),
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..EventMessage::default()
        };
        if matches!(kind, "container" | "image") {
            action.clone_into(&mut message.status);
            id.clone_into(&mut message.id);
        }
        if kind == "container" {
            message.from = attributes.get("image").cloned().unwrap_or_default();
        }
        message.actor = Actor {
            id: id.to_owned(),
            attributes,
        };
        let message = Arc::new(message);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(Arc::clone(&message));
        // Without subscribers there is nobody to miss it. Sent under the lock, so that no subscriber sees it twice.
        let _ = self.live.send(message);
    }

    /// Publishes an event of a container: its labels, image and name, and `extra` attributes.
    pub fn container(&self, record: &Record, action: &str, extra: &[(&str, String)]) {
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        for (key, value) in extra {
            attributes.insert((*key).to_owned(), value.clone());
        }
        self.publish("container", action, &record.id.to_string(), attributes);
    }

    /// Publishes that a container has joined or left a network.
    pub fn network(&self, action: &str, network: &NetworkFacts, container: &ContainerId) {
        let attributes = [
            ("container", container.to_string()),
            ("name", network.name.clone()),
            ("type", network.driver.clone()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
        let id = network.id.to_string();
        self.publish("network", action, &id, attributes.into());
    }

    /// Past events from `since` on, then live ones, up to `until`.
    pub fn stream(&self, query: EventsQuery) -> EventStream {
        let (past, live) = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            let past: VecDeque<_> = match query.since {
                Some(since) => history
                    .iter()
                    .filter(|e| e.time_nano >= since)
                    .cloned()
                    .collect(),
                None => VecDeque::new(),
            };
            (past, self.live.subscribe())
        };
        let now = jiff::Timestamp::now().as_nanosecond();
        let end = query.until.map(|until| {
            let left = i128::from(until) - now;
            let left = Duration::from_nanos(u64::try_from(left.max(0)).unwrap_or(u64::MAX));
            tokio::time::Instant::now() + left
        });
        let reader = Reader {
            past,
            live,
            end,
            until: query.until,
            filters: query.filters,
        };
        Box::pin(futures_util::stream::unfold(reader, |mut reader| async {
            reader.next().await.map(|item| (item, reader))
        }))
    }
}

struct Reader {
    past: VecDeque<Arc<EventMessage>>,
    live: broadcast::Receiver<Arc<EventMessage>>,
    end: Option<tokio::time::Instant>,
    until: Option<i64>,
    filters: Filters,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<EventMessage>> {
        loop {
            let message = match self.past.pop_front() {
                Some(message) => message,
                None => match self.receive().await? {
                    Ok(message) => message,
                    Err(lost) => {
                        let text = format!("the client was too slow: {lost} events are lost");
                        return Some(Err(Error::internal(text)));
                    }
                },
            };
            if self.until.is_some_and(|until| message.time_nano > until) {
                return None;
            }
            if matches(&self.filters, &message) {
                return Some(Ok((*message).clone()));
            }
        }
    }

    async fn receive(&mut self) -> Option<Result<Arc<EventMessage>, u64>> {
        let received = match self.end {
            None => self.live.recv().await,
            Some(end) => tokio::time::timeout_at(end, self.live.recv()).await.ok()?,
        };
        match received {
            Ok(message) => Some(Ok(message)),
            Err(RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Whether an event passes the filters of `GET /events`.
pub fn matches(filters: &Filters, event: &EventMessage) -> bool {
    let attributes = &event.actor.attributes;
    let name = attributes.get("name").map_or("", String::as_str);
    filters.matches("type", &event.kind)
        && filters.matches("scope", &event.scope)
        && matches_action(filters, &event.action)
        && filters.matches_map("label", attributes)
        && matches_image(filters, event, name)
        && [
            "container",
            "network",
            "volume",
            "daemon",
            "plugin",
            "service",
            "node",
            "secret",
            "config",
        ]
        .iter()
        .all(|kind| matches_object(filters, kind, event, name))
}

/// `exec_create`, `exec_start` and `health_status` match whatever follows their colon.
fn matches_action(filters: &Filters, action: &str) -> bool {
    let verb = action.split_once(':').map_or(action, |(verb, _)| verb);
    filters.matches("event", action) || filters.matches("event", verb)
}

fn matches_object(filters: &Filters, kind: &str, event: &EventMessage, name: &str) -> bool {
    if !filters.contains(kind) {
        return true;
    }
    event.kind == kind
        && (filters.matches_prefix(kind, &event.actor.id) || filters.matches(kind, name))
}

fn matches_image(filters: &Filters, event: &EventMessage, name: &str) -> bool {
    if !filters.contains("image") {
        return true;
    }
    let image = event
        .actor
        .attributes
        .get("image")
        .map_or("", String::as_str);
    let named = if event.kind == "image" { name } else { image };
    let without_tag = match named.rsplit_once(':') {
        Some((front, tag)) if !tag.contains('/') => front,
        _ => named,
    };
    filters.matches("image", &event.actor.id)
        || filters.matches("image", named)
        || filters.matches("image", without_tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn filter(name: &str, value: &str) -> Filters {
        let mut filters = Filters::default();
        filters.add(name, value);
        filters
    }

    #[tokio::test]
    async fn history_then_live_events_without_gap_or_repeat() {
        let events = Events::default();
        for number in 0..HISTORY + 10 {
            events.publish("volume", "create", &number.to_string(), BTreeMap::new());
        }
        let query = EventsQuery {
            since: Some(0),
            ..EventsQuery::default()
        };
        let mut stream = events.stream(query);
        events.publish("volume", "destroy", "last", BTreeMap::new());
        for number in 10..HISTORY + 10 {
            assert_eq!(
                stream.next().await.unwrap().unwrap().actor.id,
                number.to_string()
            );
        }
        assert_eq!(stream.next().await.unwrap().unwrap().action, "destroy");
    }

    #[tokio::test]
    async fn a_stream_ends_at_until() {
        let events = Events::default();
        events.publish("volume", "create", "v", BTreeMap::new());
        let query = EventsQuery {
            since: Some(0),
            until: Some(i64::MAX - 1),
            ..EventsQuery::default()
        };
        assert!(events.stream(query).next().await.is_some());
        let query = EventsQuery {
            since: Some(0),
            until: Some(1),
            ..EventsQuery::default()
        };
        assert!(events.stream(query).next().await.is_none());
    }

    #[test]
    fn filters_look_at_action_object_label_and_image() {
        let events = Events::default();
        let attributes = [
            ("name", "web"),
            ("image", "reg:5000/a/busybox:1"),
            ("tier", "front"),
        ];
        let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        events.publish("container", "exec_create: sh", "abcdef", attributes);
        let event = events.history.lock().unwrap()[0].clone();
        for (name, value, want) in [
            ("event", "exec_create", true),
            ("event", "start", false),
            ("container", "web", true),
            ("container", "abc", true),
            ("container", "db", false),
            ("network", "web", false),
            ("label", "tier=front", true),
            ("label", "tier=back", false),
            ("image", "reg:5000/a/busybox", true),
            ("type", "volume", false),
        ] {
            assert_eq!(
                matches(&filter(name, value), &event),
                want,
                "{name}={value}"
            );
        }
    }
}
