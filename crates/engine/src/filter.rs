//! Which containers a `filters` parameter lets through (`GET /containers/json`, `POST /containers/prune`).

use cais_types::api::query::Filters;
use cais_types::{ContainerId, Digest, Error, Result};
use regex_lite::Regex;

use crate::house::House;
use crate::record::Record;

/// Names that `GET /containers/json` accepts.
const LIST_NAMES: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

const STATES: &[&str] = &[
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

/// Filters of a container list, checked and with every name resolved once.
pub struct ContainerFilter {
    filters: Filters,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    images: Vec<Digest>,
    /// Containers made before this one only.
    before: Option<String>,
    since: Option<String>,
    publish: Vec<PortRange>,
    expose: Vec<PortRange>,
}

struct PortRange {
    first: u16,
    last: u16,
    protocol: String,
}

impl ContainerFilter {
    /// Checks a filter set and resolves what it names.
    ///
    /// # Errors
    /// Invalid: an unknown filter or value; NotFound: a container of `before` or `since` that is not there.
    pub fn new(house: &House, filters: Filters) -> Result<Self> {
        filters.validate(LIST_NAMES)?;
        for status in filters.get("status") {
            if !STATES.contains(&status.as_str()) {
                return Err(Error::invalid(format!("invalid filter 'status={status}'")));
            }
        }
        for code in filters.get("exited") {
            code.parse::<i32>()
                .map_err(|_| Error::invalid(format!("invalid filter 'exited={code}'")))?;
        }
        let images = filters.get("ancestor").iter();
        let images = images
            .filter_map(|image| house.ports.rootfs.find(image))
            .collect();
        Ok(Self {
            names: patterns(filters.get("name"))?,
            ids: patterns(filters.get("id"))?,
            images,
            before: created(house, filters.get("before"))?,
            since: created(house, filters.get("since"))?,
            publish: ranges("publish", filters.get("publish"))?,
            expose: ranges("expose", filters.get("expose"))?,
            filters,
        })
    }

    /// Whether containers that do not run are asked for by name of their state.
    pub fn wants_stopped(&self) -> bool {
        self.filters.contains("status") || self.filters.contains("exited")
    }

    /// Whether a container passes.
    pub fn accepts(&self, record: &Record) -> bool {
        self.accepts_identity(record) && self.accepts_state(record) && self.accepts_wiring(record)
    }

    fn accepts_identity(&self, record: &Record) -> bool {
        let name = record.name.as_str();
        let slashed = record.slash_name();
        let ancestor = !self.filters.contains("ancestor") || self.images.contains(&record.image);
        any(&self.names, |pattern| {
            pattern.is_match(name) || pattern.is_match(&slashed)
        }) && any(&self.ids, |pattern| {
            pattern.is_match(&record.id.to_string())
        }) && ancestor
            && self.filters.matches_map("label", &record.config.labels)
            && self
                .before
                .as_ref()
                .is_none_or(|before| record.created < *before)
            && self
                .since
                .as_ref()
                .is_none_or(|since| record.created > *since)
            && !self
                .filters
                .get("is-task")
                .iter()
                .any(|value| matches!(value.as_str(), "true" | "1"))
    }

    fn accepts_state(&self, record: &Record) -> bool {
        let exited = self.filters.get("exited");
        let health = record
            .health
            .as_ref()
            .map_or("none", |health| health.status.as_str());
        let ended =
            !record.state.status.is_running() && record.state.finished_at != crate::state::NEVER;
        self.filters.matches("status", record.state.status.as_str())
            && (exited.is_empty() || ended && exited.contains(&record.state.exit_code.to_string()))
            && self.filters.matches("health", health)
    }

    fn accepts_wiring(&self, record: &Record) -> bool {
        let networks = self.filters.get("network");
        let connected = |wanted: &String| {
            record.host_config.network_mode == *wanted
                || record.endpoints.contains_key(wanted)
                || record.network.endpoints.iter().any(|(name, endpoint)| {
                    name == wanted
                        || !wanted.is_empty() && endpoint.network_id.starts_with(wanted.as_str())
                })
        };
        let volumes = self.filters.get("volume");
        let mounted = |wanted: &String| {
            record.mounts.iter().any(|mount| {
                mount.name == *wanted || mount.destination == *wanted || mount.source == *wanted
            })
        };
        (networks.is_empty() || networks.iter().any(connected))
            && (volumes.is_empty() || volumes.iter().any(mounted))
            && any(&self.publish, |range| {
                record.network.ports.keys().any(|port| range.holds(port))
            })
            && any(&self.expose, |range| {
                record
                    .config
                    .exposed_ports
                    .iter()
                    .any(|(port, _)| range.holds(port))
            })
    }
}

/// No condition accepts all; several are alternatives.
fn any<T>(conditions: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    conditions.is_empty() || conditions.iter().any(holds)
}

fn patterns(values: &[String]) -> Result<Vec<Regex>> {
    values
        .iter()
        .map(|value| {
            Regex::new(value)
                .map_err(|error| Error::invalid(format!("invalid filter '{value}': {error}")))
        })
        .collect()
}

fn created(house: &House, names: &[String]) -> Result<Option<String>> {
    names
        .first()
        .map(|name| Ok(house.store.find(name)?.record().created.clone()))
        .transpose()
}

fn ranges(name: &str, values: &[String]) -> Result<Vec<PortRange>> {
    let invalid = |value: &str| Error::invalid(format!("invalid filter '{name}={value}'"));
    values
        .iter()
        .map(|value| {
            let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let number = |text: &str| text.parse().map_err(|_| invalid(value));
            Ok(PortRange {
                first: number(first)?,
                last: number(last)?,
                protocol: protocol.to_owned(),
            })
        })
        .collect()
}

impl PortRange {
    /// Whether `80/tcp` is in the range.
    fn holds(&self, port: &str) -> bool {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        protocol == self.protocol
            && number
                .parse()
                .is_ok_and(|number: u16| (self.first..=self.last).contains(&number))
    }
}

/// What `container prune` may remove: `until` and labels.
pub struct PruneFilter {
    filters: Filters,
    /// RFC 3339; only older containers go.
    until: Option<String>,
}

impl PruneFilter {
    /// Checks a filter set.
    ///
    /// # Errors
    /// Invalid: an unknown filter or a time that cannot be read.
    pub fn new(filters: Filters) -> Result<Self> {
        filters.validate(&["label", "label!", "until"])?;
        let until = match filters.get("until") {
            [] => None,
            [one] => Some(crate::time::parse_moment(one)?),
            _ => return Err(Error::invalid("more than one until filter specified")),
        };
        Ok(Self { filters, until })
    }

    /// Whether something made at `created` (RFC 3339) with these labels may go.
    pub fn accepts(
        &self,
        created: &str,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        self.until
            .as_ref()
            .is_none_or(|until| created < until.as_str())
            && self.filters.matches_labels(labels)
    }
}

/// Containers that use an image, newest first.
pub fn users_of(house: &House, image: &Digest) -> Vec<(ContainerId, bool)> {
    let containers = house.store.all();
    let records = containers.iter().map(|container| container.record());
    records
        .filter(|record| record.image == *image)
        .map(|record| (record.id, record.state.status.is_running()))
        .collect()
}
