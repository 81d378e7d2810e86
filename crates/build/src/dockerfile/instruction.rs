//! Instructions as types: what each says, with the lines it stands on. Variables are not expanded yet.

use super::heredoc::Heredoc;
use super::source::Lines;
pub use super::split::Pair;

/// One instruction of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The keyword as it is written.
    pub keyword: String,
    pub kind: Kind,
    /// The whole line with its continuations joined.
    pub text: String,
    pub lines: Lines,
    /// The file that INCLUDE took it from.
    pub file: Option<String>,
    /// Comment lines directly above.
    pub comments: Vec<String>,
    /// Blank lines within the continued line.
    pub empty_continuation: bool,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Add(Transfer),
    Arg(Vec<ArgPair>),
    Cmd(CommandLine),
    Copy(Transfer),
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    Expose(Vec<String>),
    From(From),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(String),
    /// The instruction to run later, with its here-documents.
    Onbuild(String),
    Run(Run),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// A build argument and its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgPair {
    pub name: String,
    pub default: Option<String>,
    /// What the comment above says of it.
    pub description: Option<String>,
}

/// A command in exec or shell form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    pub words: Vec<String>,
    /// Shell form: one word that goes behind the shell.
    pub shell: bool,
    pub heredocs: Vec<Heredoc>,
}

/// What ADD and COPY copy, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Paths, and for ADD also URLs.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub documents: Vec<Heredoc>,
    pub destination: String,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<String>,
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
    /// Copies nothing when no source is there; only with the extra.
    pub if_exists: bool,
}

/// The start of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    pub base: String,
    /// The stage's name in small letters.
    pub name: Option<String>,
    /// The name as it is written.
    pub written_name: Option<String>,
    /// The word between base and name as it is written.
    pub as_keyword: Option<String>,
    pub platform: Option<String>,
    /// What the comment above says of the stage.
    pub description: Option<String>,
}

/// A health check; durations in nanoseconds, 0 for the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    pub test: Vec<String>,
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: i64,
}

/// A command that makes a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub command: CommandLine,
    /// Values of `--mount`; [`super::Mount::parse`] reads them once variables are known.
    pub mounts: Vec<String>,
    pub network: NetworkMode,
    pub security: Security,
    /// Names of the flags that were given.
    pub flags: Vec<String>,
}

/// The network of a RUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    #[default]
    Default,
    None,
    Host,
}

/// The confinement of a RUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

/// The instructions of the language.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl Kind {
    /// The keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::From(_) => "FROM",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}
