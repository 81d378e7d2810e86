//! Who may do what. A request carries nothing, a name and a password (htpasswd), or a token of an authorization server; what
//! comes out is an [`Access`]. Handlers ask that and nothing else.

mod htpasswd;
mod signature;
mod token;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};

use super::error::{ErrorCode, RegistryError};
use super::name::RepositoryName;
use super::route::Route;
use htpasswd::Htpasswd;
use token::Tokens;

/// How clients show who they are.
#[derive(Clone, Debug, Default)]
pub enum AuthConfig {
    /// Everybody may do everything.
    #[default]
    None,
    /// Names and bcrypt hashes in a file; who is in it may do everything.
    Htpasswd { realm: String, file: PathBuf },
    /// Tokens signed by one of these keys.
    Token(TokenConfig),
}

/// What tokens must be.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Where clients get tokens.
    pub realm: String,
    /// The audience.
    pub service: String,
    pub issuer: String,
    /// PEM files with public keys or certificates.
    pub keys: Vec<PathBuf>,
}

/// What is done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    /// As scopes say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// What one request may do.
#[derive(Clone, Debug)]
pub enum Access {
    Everything,
    /// What a token grants, and pulling when that is free for all.
    Granted {
        grants: Vec<Grant>,
        pull: bool,
    },
}

/// A line of a token's `access`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Grant {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    #[serde(default)]
    pub actions: Vec<String>,
}

impl Access {
    /// Whether an action is allowed in a repository.
    pub fn allows(&self, name: &RepositoryName, action: Action) -> bool {
        match self {
            Self::Everything => true,
            Self::Granted { pull: true, .. } if action == Action::Pull => true,
            Self::Granted { grants, .. } => grants.iter().any(|grant| {
                grant.kind == "repository"
                    && grant.name == name.as_str()
                    && grant
                        .actions
                        .iter()
                        .any(|granted| granted == action.as_str() || granted == "*")
            }),
        }
    }

    /// Whether the list of all repositories may be seen.
    pub fn catalog(&self) -> bool {
        match self {
            Self::Everything => true,
            Self::Granted { grants, .. } => grants.iter().any(|grant| {
                grant.kind == "registry"
                    && grant.name == "catalog"
                    && grant.actions.iter().any(|action| action == "*")
            }),
        }
    }
}

/// The configured way.
pub struct Auth {
    scheme: Scheme,
    anonymous_pull: bool,
}

enum Scheme {
    None,
    Htpasswd { realm: String, users: Htpasswd },
    Token { config: TokenConfig, tokens: Tokens },
}

impl Auth {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read or holds nothing that serves.
    pub fn open(config: &AuthConfig, anonymous_pull: bool) -> cais_types::Result<Self> {
        let scheme = match config {
            AuthConfig::None => Scheme::None,
            AuthConfig::Htpasswd { realm, file } => Scheme::Htpasswd {
                realm: realm.clone(),
                users: Htpasswd::open(file)?,
            },
            AuthConfig::Token(config) => Scheme::Token {
                config: config.clone(),
                tokens: Tokens::open(config)?,
            },
        };
        Ok(Self {
            scheme,
            anonymous_pull,
        })
    }

    /// Reads the files again; when that fails, what was read before stays.
    ///
    /// # Errors
    /// As [`Auth::open`].
    pub fn reload(&self) -> cais_types::Result<()> {
        match &self.scheme {
            Scheme::None => Ok(()),
            Scheme::Htpasswd { users, .. } => users.reload(),
            Scheme::Token { config, tokens } => tokens.reload(config),
        }
    }

    /// What a request may do, or the challenge.
    ///
    /// # Errors
    /// `UNAUTHORIZED` with the challenge for what the route needs.
    pub async fn check(
        &self,
        headers: &HeaderMap,
        route: &Route,
        method: &http::Method,
    ) -> Result<Access, RegistryError> {
        let needed = needed(route, method);
        let access = match self.access(headers).await {
            Ok(access) => access,
            Err(problem) => return Err(self.challenge(&needed, Some(problem))),
        };
        let Some(access) = access else {
            let free = self.anonymous_pull && needed.is_pull();
            return if free {
                Ok(Access::Granted {
                    grants: Vec::new(),
                    pull: true,
                })
            } else {
                Err(self.challenge(&needed, None))
            };
        };
        if needed.allowed(&access) {
            Ok(access)
        } else {
            Err(self.challenge(&needed, Some(Problem::InsufficientScope)))
        }
    }

    /// None: the request says nothing of who it is.
    async fn access(&self, headers: &HeaderMap) -> Result<Option<Access>, Problem> {
        if matches!(self.scheme, Scheme::None) {
            return Ok(Some(Access::Everything));
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(None);
        };
        let value = value.to_str().map_err(|_| Problem::Invalid)?;
        let (scheme, credentials) = value.split_once(' ').ok_or(Problem::Invalid)?;
        match &self.scheme {
            Scheme::Htpasswd { users, .. } if scheme.eq_ignore_ascii_case("basic") => {
                let (user, password) = basic(credentials).ok_or(Problem::Invalid)?;
                let known = users.verify(user, password).await;
                known
                    .then_some(Some(Access::Everything))
                    .ok_or(Problem::Invalid)
            }
            Scheme::Token { tokens, .. } if scheme.eq_ignore_ascii_case("bearer") => {
                let grants = tokens.verify(credentials.trim()).map_err(|error| {
                    tracing::debug!(%error, "token");
                    Problem::Invalid
                })?;
                Ok(Some(Access::Granted {
                    grants,
                    pull: self.anonymous_pull,
                }))
            }
            _ => Err(Problem::Invalid),
        }
    }

    fn challenge(&self, needed: &Needed<'_>, problem: Option<Problem>) -> RegistryError {
        let error = RegistryError::new(ErrorCode::Unauthorized, "authentication required")
            .with_status(StatusCode::UNAUTHORIZED);
        let challenge = match &self.scheme {
            Scheme::None => return error,
            Scheme::Htpasswd { realm, .. } => format!("Basic realm=\"{realm}\""),
            Scheme::Token { config, .. } => {
                let mut text = format!(
                    "Bearer realm=\"{}\",service=\"{}\"",
                    config.realm, config.service
                );
                if let Some(scope) = needed.scope() {
                    text.push_str(&format!(",scope=\"{scope}\""));
                }
                match problem {
                    Some(Problem::Invalid) => text.push_str(",error=\"invalid_token\""),
                    Some(Problem::InsufficientScope) => {
                        text.push_str(",error=\"insufficient_scope\"");
                    }
                    None => {}
                }
                text
            }
        };
        let error = match needed.scope() {
            Some(scope) => error.with_detail(scope),
            None => error,
        };
        error.with_header(header::WWW_AUTHENTICATE, challenge)
    }
}

#[derive(Clone, Copy, Debug)]
enum Problem {
    Invalid,
    InsufficientScope,
}

/// What a request must be allowed.
enum Needed<'a> {
    /// To be somebody.
    Identity,
    Catalog,
    Repository(&'a RepositoryName, &'static [Action]),
}

impl Needed<'_> {
    fn is_pull(&self) -> bool {
        matches!(self, Self::Repository(_, [Action::Pull]) | Self::Catalog)
    }

    fn allowed(&self, access: &Access) -> bool {
        match self {
            Self::Identity => true,
            Self::Catalog => access.catalog(),
            Self::Repository(name, actions) => {
                actions.iter().all(|action| access.allows(name, *action))
            }
        }
    }

    fn scope(&self) -> Option<String> {
        match self {
            Self::Identity => None,
            Self::Catalog => Some("registry:catalog:*".to_owned()),
            Self::Repository(name, actions) => {
                let actions: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
                Some(format!("repository:{name}:{}", actions.join(",")))
            }
        }
    }
}

fn needed<'a>(route: &'a Route, method: &http::Method) -> Needed<'a> {
    let reads = matches!(*method, http::Method::GET | http::Method::HEAD);
    match route {
        Route::Catalog => Needed::Catalog,
        Route::Base | Route::Health | Route::Metrics => Needed::Identity,
        Route::Tags(name) | Route::Referrers(name, _) => Needed::Repository(name, &[Action::Pull]),
        Route::Manifest(name, _) | Route::Blob(name, _) => {
            let actions: &[Action] = match *method {
                _ if reads => &[Action::Pull],
                http::Method::DELETE => &[Action::Delete],
                _ => &[Action::Pull, Action::Push],
            };
            Needed::Repository(name, actions)
        }
        Route::Uploads(name) | Route::Upload(name, _) => {
            Needed::Repository(name, &[Action::Pull, Action::Push])
        }
    }
}

fn basic(credentials: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(credentials.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
