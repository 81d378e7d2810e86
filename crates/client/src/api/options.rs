//! Query parameters of calls that have more than two.

use cais_types::oci::Platform;

/// `GET /containers/json`.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Stopped containers as well.
    pub all: bool,
    /// Only this many of the newest.
    pub limit: Option<u64>,
    /// With `SizeRw` and `SizeRootFs`.
    pub size: bool,
    /// Which ones.
    pub filters: super::Filters,
}

/// `POST /containers/{id}/attach`.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Old output first.
    pub logs: bool,
    /// Output from now on.
    pub stream: bool,
    /// Take standard input.
    pub stdin: bool,
    /// Send standard output.
    pub stdout: bool,
    /// Send standard error.
    pub stderr: bool,
    /// Key sequence that detaches; empty for the daemon's own.
    pub detach_keys: String,
}

/// `GET /containers/{id}/logs`.
#[derive(Clone, Debug, Default)]
pub struct LogsOptions {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Keep going.
    pub follow: bool,
    /// A time in front of each line.
    pub timestamps: bool,
    /// Attributes of the log driver in front of each line.
    pub details: bool,
    /// Seconds since the epoch with fraction, empty for no limit.
    pub since: String,
    /// Seconds since the epoch with fraction, empty for no limit.
    pub until: String,
    /// `all` or a number of lines; empty for all.
    pub tail: String,
}

/// `POST /containers/{id}/stop` and `/restart`.
#[derive(Clone, Debug, Default)]
pub struct StopOptions {
    /// Signal instead of the container's own.
    pub signal: Option<String>,
    /// Seconds until `SIGKILL`, -1 for never.
    pub timeout: Option<i64>,
}

/// `DELETE /containers/{id}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Its anonymous volumes as well.
    pub volumes: bool,
    /// Kill it first.
    pub force: bool,
    /// Remove a legacy link instead of the container.
    pub link: bool,
}

/// `POST /images/create?fromSrc=`.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// `-` for the request body, else a URL the daemon fetches.
    pub source: String,
    /// Name of the new image, empty for none.
    pub repo: String,
    /// Tag of the new image, empty for `latest`.
    pub tag: String,
    /// Commit message.
    pub message: String,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
    /// `os/arch` of the new image, empty for the daemon's.
    pub platform: String,
}

/// `POST /images/create?fromImage=`.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Domain and path of the image.
    pub repository: String,
    /// A tag or a digest; empty for all tags.
    pub tag: String,
    /// `os/arch[/variant]`, empty for the daemon's choice.
    pub platform: String,
    /// The `X-Registry-Auth` header.
    pub registry_auth: String,
    /// All images of an index that is the cache of a build; daemons other than ours know of no such thing.
    pub whole: bool,
}

/// `POST /images/{name}/push`.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Domain and path of the image.
    pub repository: String,
    /// Empty for all tags.
    pub tag: String,
    /// The one platform to push.
    pub platform: Option<Platform>,
    /// The `X-Registry-Auth` header.
    pub registry_auth: String,
}

/// `GET /images/search`.
#[derive(Clone, Debug, Default)]
pub struct SearchOptions {
    pub term: String,
    /// At most this many; 0 for the daemon's choice.
    pub limit: i64,
    /// Which ones.
    pub filters: super::Filters,
    /// The `X-Registry-Auth` header.
    pub registry_auth: String,
}

/// `POST /commit`.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Id or name.
    pub container: String,
    /// Domain and path of the new image, empty for none.
    pub repository: String,
    /// Empty for `latest`.
    pub tag: String,
    pub comment: String,
    pub author: String,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
}

/// `DELETE /images/{name}`.
#[derive(Clone, Debug, Default)]
pub struct ImageRemoveOptions {
    /// Whether containers or several names keep it or not.
    pub force: bool,
    /// Leaves untagged parents.
    pub no_prune: bool,
    /// Only these platforms of it; empty for the image.
    pub platforms: Vec<Platform>,
    /// Take the name only; daemons other than ours know of no such thing.
    pub untag: bool,
}
