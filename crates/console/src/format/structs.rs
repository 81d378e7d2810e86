//! Structs of Docker's answers in templates. A template prints a struct as `{first second}`, where answers have an object, which
//! prints as a map does. So each object that is known to be a struct is marked by an entry that no answer has, and its text is
//! exchanged in what the template printed.

use std::fmt::Write as _;
use std::sync::Arc;

use gotmpl::Value;

/// The key of the mark: it sorts before all others, and no other text has it.
const MARK: &str = "\u{1}";

/// Where a field has structs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is one.
    Field,
    /// In its list.
    Items,
    /// In its map.
    Values,
    /// In the lists of its map.
    ItemsOfValues,
}

/// A field that has structs, where, and their fields in Go's order, each with what it prints when it is not set.
type Known = (&'static str, Place, &'static [(&'static str, &'static str)]);

const BINDING: &[(&str, &str)] = &[("HostIp", ""), ("HostPort", "")];

const KNOWN: &[Known] = &[
    ("PortBindings", Place::ItemsOfValues, BINDING),
    ("Ports", Place::ItemsOfValues, BINDING),
    ("ExposedPorts", Place::Values, &[]),
    ("Volumes", Place::Values, &[]),
    (
        "RestartPolicy",
        Place::Field,
        &[("Name", ""), ("MaximumRetryCount", "0")],
    ),
    (
        "LogConfig",
        Place::Field,
        &[("Type", ""), ("Config", "map[]")],
    ),
    (
        "GraphDriver",
        Place::Field,
        &[("Data", "map[]"), ("Name", "")],
    ),
    ("RootFS", Place::Field, &[("Type", ""), ("Layers", "[]")]),
    (
        "State",
        Place::Field,
        &[
            ("Status", ""),
            ("Running", "false"),
            ("Paused", "false"),
            ("Restarting", "false"),
            ("OOMKilled", "false"),
            ("Dead", "false"),
            ("Pid", "0"),
            ("ExitCode", "0"),
            ("Error", ""),
            ("StartedAt", ""),
            ("FinishedAt", ""),
            ("Health", "<nil>"),
        ],
    ),
    (
        "Mounts",
        Place::Items,
        &[
            ("Type", ""),
            ("Name", ""),
            ("Source", ""),
            ("Destination", ""),
            ("Driver", ""),
            ("Mode", ""),
            ("RW", "false"),
            ("Propagation", ""),
        ],
    ),
    ("ConfigFrom", Place::Field, &[("Network", "")]),
    (
        "IPAM",
        Place::Field,
        &[("Driver", ""), ("Options", "map[]"), ("Config", "[]")],
    ),
    (
        "Config",
        Place::Items,
        &[
            ("Subnet", ""),
            ("IPRange", ""),
            ("Gateway", ""),
            ("AuxiliaryAddresses", "map[]"),
        ],
    ),
    (
        "Containers",
        Place::Values,
        &[
            ("Name", ""),
            ("EndpointID", ""),
            ("MacAddress", ""),
            ("IPv4Address", ""),
            ("IPv6Address", ""),
        ],
    ),
];

/// What marked structs print as, and what Docker prints for them.
#[derive(Default)]
pub struct Structs {
    texts: Vec<(String, String)>,
}

impl Structs {
    /// Marks all structs of an answer.
    pub fn mark(answer: &mut Value) -> Self {
        let mut structs = Self::default();
        structs.inside(answer);
        structs
    }

    /// Exchanges the texts of structs.
    pub fn exchange(&self, mut printed: String) -> String {
        // Those that hold others were marked after them.
        for (text, of_go) in self.texts.iter().rev() {
            if printed.contains(MARK) {
                printed = printed.replace(text, of_go);
            }
        }
        without_marks(printed)
    }

    fn inside(&mut self, value: &mut Value) {
        match value {
            Value::Map(fields) => {
                let Some(fields) = Arc::get_mut(fields) else {
                    return;
                };
                for (name, field) in fields.iter_mut() {
                    self.inside(field);
                    for known in KNOWN.iter().filter(|known| known.0 == &**name) {
                        self.field(field, known);
                    }
                }
            }
            Value::List(items) => {
                for item in Arc::get_mut(items).into_iter().flatten() {
                    self.inside(item);
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, field: &mut Value, known: &Known) {
        match (known.1, field) {
            (Place::Field, field) => self.one(field, known.2),
            (Place::Items, Value::List(items)) => {
                for item in Arc::get_mut(items).into_iter().flatten() {
                    self.one(item, known.2);
                }
            }
            (Place::Values, Value::Map(entries)) => {
                let entries = Arc::get_mut(entries).into_iter();
                for entry in entries.flat_map(|entries| entries.values_mut()) {
                    self.one(entry, known.2);
                }
            }
            (Place::ItemsOfValues, Value::Map(entries)) => {
                let entries = Arc::get_mut(entries).into_iter();
                for entry in entries.flat_map(|entries| entries.values_mut()) {
                    self.field(entry, &(known.0, Place::Items, known.2));
                }
            }
            _ => {}
        }
    }

    /// Marks an object that has no other fields than these; one that holds a pointer prints an address with Docker.
    fn one(&mut self, value: &mut Value, of_go: &[(&str, &str)]) {
        let Value::Map(fields) = value else {
            return;
        };
        let known = |name: &str| of_go.iter().any(|(known, _)| *known == name);
        let pointer = matches!(fields.get("Health"), Some(Value::Map(_)));
        if pointer || !fields.keys().all(|name| known(name)) {
            return;
        }
        let texts = of_go.iter().map(|(name, unset)| match fields.get(*name) {
            None | Some(Value::Nil) => (*unset).to_owned(),
            Some(field) => self.exchange(field.to_string()),
        });
        let texts: Vec<String> = texts.collect();
        let number = Value::Int(i64::try_from(self.texts.len()).unwrap_or(0));
        let Some(fields) = Arc::get_mut(fields) else {
            return;
        };
        fields.insert(MARK.into(), number);
        let text = value.to_string();
        self.texts.push((text, format!("{{{}}}", texts.join(" "))));
    }
}

/// Takes marks away whose structs have changed since.
fn without_marks(printed: String) -> String {
    if !printed.contains(MARK) {
        return printed;
    }
    let mut pieces = printed.split(MARK);
    let mut clean = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let number = |char: char| char == ':' || char.is_ascii_digit();
        let rest = piece.trim_start_matches(number);
        let _ = write!(clean, "{}", rest.strip_prefix(' ').unwrap_or(rest));
    }
    clean
}
