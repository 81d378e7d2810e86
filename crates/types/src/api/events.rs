//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decode::is_zero;

/// The object an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// One event of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// The action once more, for containers and images.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// The actor's id once more, for containers and images.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The image of a container.
    #[serde(skip_serializing_if = "is_zero")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, ...
    #[serde(rename = "Type")]
    pub kind: String,
    /// `start`, `die`, `exec_create: sh`, `health_status: healthy`, ...
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local` or `swarm`.
    #[serde(skip_serializing_if = "is_zero")]
    pub scope: String,
    /// Unix seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}
