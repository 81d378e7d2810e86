//! The values of `RUN --mount`: comma-separated fields, quoted as in CSV files.

use cais_types::size::ram_in_bytes;

use super::suggest;

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl MountType {
    /// Its name in Dockerfiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// How steps that run at the same time use one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

/// A mount of a RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountType,
    pub from: Option<String>,
    pub source: Option<String>,
    pub target: Option<String>,
    pub read_only: bool,
    /// Of a cache, secret or agent.
    pub id: Option<String>,
    /// The variable that gets a secret.
    pub env: Option<String>,
    pub sharing: Option<Sharing>,
    pub required: bool,
    /// Bytes of a tmpfs, 0 without limit.
    pub size: i64,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// Expands the variables in a value.
pub type Expander<'a> = &'a dyn Fn(&str) -> Result<String, String>;

const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
];

impl Mount {
    /// Checks what can be checked before variables are known: the fields, and that `from` has no variable.
    pub(super) fn check(value: &str) -> Result<(), String> {
        for field in fields(value)? {
            let from = field
                .split_once('=')
                .filter(|(key, _)| key.eq_ignore_ascii_case("from"));
            let Some((_, value)) = from else { continue };
            let variable = value
                .split_once('$')
                .is_some_and(|(_, rest)| !rest.is_empty());
            if variable {
                return Err(
                    "'from' doesn't support variable expansion, define alias stage instead"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Reads a mount, with its variables expanded.
    ///
    /// # Errors
    /// BuildKit's sentence about a key or value that a mount of this type does not take.
    pub fn parse(value: &str, expand: Expander<'_>) -> Result<Self, String> {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in fields(value)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(expand(value)?)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("readonly" | "ro", value) => read_only = Some(boolean(&key, value)?),
                ("readwrite" | "rw", value) => read_only = Some(!boolean(&key, value)?),
                ("required", value) => {
                    mount.only_for(&key, &[MountType::Secret, MountType::Ssh])?;
                    mount.required = boolean(&key, value)?;
                }
                (_, Some(value)) => mount.set(&key, value, &field)?,
                (_, None) => {
                    return Err(format!("invalid field '{field}' must be a key=value pair"));
                }
            }
        }
        mount.read_only =
            read_only.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
        mount.validate()?;
        Ok(mount)
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), String> {
        match key {
            "type" => self.kind = mount_type(&value)?,
            "from" => self.from = some(value),
            "source" | "src" => self.source = some(value),
            "target" | "dst" | "destination" => self.target = some(value),
            "id" => self.id = some(value),
            "env" => {
                self.only_for(key, &[MountType::Secret])?;
                self.env = some(value);
            }
            "sharing" => self.sharing = Some(sharing(&value)?),
            "size" => {
                self.only_for(key, &[MountType::Tmpfs])?;
                self.size =
                    ram_in_bytes(&value).map_err(|_| format!("invalid value for size: {value}"))?;
            }
            "mode" => {
                let mode = u32::from_str_radix(&value, 8);
                self.mode = Some(mode.map_err(|_| format!("invalid value {value} for mode"))?);
            }
            "uid" | "gid" => {
                let id = value.parse();
                let id = Some(id.map_err(|_| format!("invalid value {value} for {key}"))?);
                if key == "uid" {
                    self.uid = id;
                } else {
                    self.gid = id;
                }
            }
            _ => {
                let hint = suggest::hint(key, KEYS);
                return Err(format!("unexpected key '{key}' in '{field}'{hint}"));
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[MountType]) -> Result<(), String> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let kind = self.kind.name();
        Err(format!("unexpected key '{key}' for mount type '{kind}'"))
    }

    fn validate(&self) -> Result<(), String> {
        let kind = self.kind.name();
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            let given = [
                ("mode", self.mode.is_some()),
                ("uid", self.uid.is_some()),
                ("gid", self.gid.is_some()),
            ];
            if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
                return Err(format!("{name} not allowed for {kind:?} type mounts"));
            }
        }
        if self.kind == MountType::Secret {
            self.validate_secret()?;
        }
        if self.sharing.is_some() && self.kind != MountType::Cache {
            return Err(format!("invalid cache sharing set for {kind} mount"));
        }
        let needs_target = matches!(
            self.kind,
            MountType::Bind | MountType::Cache | MountType::Tmpfs
        );
        if needs_target && self.target.is_none() {
            return Err(format!("{kind} mount needs a target"));
        }
        Ok(())
    }

    fn validate_secret(&self) -> Result<(), String> {
        if self.from.is_some() {
            return Err("secret mount should not have a from".to_owned());
        }
        if self.sharing.is_some() {
            return Err("secret mount should not define sharing".to_owned());
        }
        if self.source.is_none() && self.target.is_none() && self.id.is_none() {
            return Err("invalid secret mount. one of source, target required".to_owned());
        }
        if self.source.is_some() && self.id.is_some() {
            return Err("both source and id can't be set".to_owned());
        }
        Ok(())
    }
}

fn some(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

fn mount_type(value: &str) -> Result<MountType, String> {
    Ok(match value.to_lowercase().as_str() {
        "bind" => MountType::Bind,
        "cache" => MountType::Cache,
        "tmpfs" => MountType::Tmpfs,
        "secret" => MountType::Secret,
        "ssh" => MountType::Ssh,
        _ => {
            let hint = suggest::hint(value, ["bind", "cache", "tmpfs", "secret", "ssh"]);
            return Err(format!("unsupported mount type {value:?}{hint}"));
        }
    })
}

fn sharing(value: &str) -> Result<Sharing, String> {
    Ok(match value.to_lowercase().as_str() {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        _ => {
            let hint = suggest::hint(value, ["shared", "private", "locked"]);
            return Err(format!("unsupported sharing value {value:?}{hint}"));
        }
    })
}

/// A truth value as Go reads it; a key alone is true.
fn boolean(key: &str, value: Option<String>) -> Result<bool, String> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(format!("invalid value for {key}: {value}")),
    }
}

/// The fields of one CSV record: a field in double quotes may hold commas, and `""` for a quote.
fn fields(value: &str) -> Result<Vec<String>, String> {
    let bad = |what: &str| Err(format!("failed to parse csv mounts: {what}"));
    let mut fields = Vec::new();
    let mut rest = value;
    if rest.is_empty() {
        return bad("EOF");
    }
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => match quoted_field(quoted) {
                Some(found) => found,
                None => return bad("extraneous or missing \" in quoted-field"),
            },
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return bad("bare \" in non-quoted-field");
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// A field whose opening quote was taken, and what follows its closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        if let Some(more) = after.strip_prefix('"') {
            field.push('"');
            rest = more;
            continue;
        }
        return (after.is_empty() || after.starts_with(',')).then_some((field, after));
    }
}
