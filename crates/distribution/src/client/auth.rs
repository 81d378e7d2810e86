//! Proving who we are (the token specification of the registry, RFC 7617).
//!
//! The rule for credentials: they are sent to the registry they are for, and to the token server that this registry itself
//! names in a challenge of its own; to nobody else, and never after a redirect.
//! - A challenge counts only when the registry's own host and port gave it: neither mirrors, nor the targets of redirects, nor
//!   the hosts of foreign layers (CVE-2020-15157).
//! - A registry that proved by TLS who it is may name a token server on any host, over verified TLS.
//! - One that did not (plain HTTP, any certificate) may name one on its own host only, or on this machine when it is there
//!   itself: else whoever is in between could have the password sent to him (CVE-2019-10214, CVE-2024-3727).
//! - No link-local or metadata address, and no loopback one unless the registry is there (CVE-2026-33540, CVE-2026-33990).
//! - Redirects of token servers are not followed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::Deserialize;

use super::address::{host_of, is_loopback_name};
use super::body;
use super::challenge::Challenge;
use super::config::Credentials;
use super::endpoint::{Endpoint, Outgoing};
use super::error::RegistryError;

const TOKEN_ANSWER_MAX: u64 = 1 << 20;
/// What tokens last that do not say it, and at least (token specification).
const TOKEN_LIFE_MIN: Duration = Duration::from_secs(60);
/// Tokens are not used in their last moments.
const TOKEN_LIFE_REST: Duration = Duration::from_secs(5);
const TOKENS_MAX: usize = 1024;
const CLIENT_ID: &str = "docker";

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub credentials: Option<&'a Credentials>,
    /// `repository:library/busybox:pull`.
    pub scopes: &'a [String],
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    credentials: Option<Credentials>,
    scopes: Vec<String>,
    challenge: Challenge,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

type TokenCell = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What is known of how a server wants to be convinced, and the tokens for it.
#[derive(Default)]
pub struct Authority {
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<TokenKey, TokenCell>>,
}

/// What a token server answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    pub refresh_token: Option<String>,
}

impl TokenAnswer {
    /// The token as a header.
    pub fn header(&self) -> Result<HeaderValue, RegistryError> {
        let token = self.token.as_ref().filter(|token| !token.is_empty());
        let token = token.or(self.access_token.as_ref());
        let text = token.filter(|token| !token.is_empty()).ok_or_else(|| {
            RegistryError::Unusable(
                "authorization server did not include a token in the response".into(),
            )
        })?;
        secret(format!("Bearer {text}"))
    }
}

impl Authority {
    /// How the server wanted to be convinced the last time.
    pub fn challenge(&self) -> Option<Challenge> {
        let challenge = self.challenge.lock();
        challenge.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to send before being asked, from what is known of the server.
    pub async fn ready(
        &self,
        endpoint: &Endpoint,
        identity: Identity<'_>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        if let Some(token) = identity.credentials.and_then(|c| c.registry_token.as_ref()) {
            return secret(format!("Bearer {token}")).map(Some);
        }
        match self.challenge() {
            None => Ok(None),
            Some(Challenge::Basic) => identity.credentials.map(basic).transpose(),
            Some(bearer) => self.token(endpoint, identity, bearer, None).await.map(Some),
        }
    }

    /// What to send after the server's challenge; none when what was sent is all there is.
    pub async fn answer(
        &self,
        endpoint: &Endpoint,
        identity: Identity<'_>,
        challenge: Challenge,
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        *self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(challenge.clone());
        let has_own_token = identity
            .credentials
            .is_some_and(|c| c.registry_token.is_some());
        match challenge {
            _ if has_own_token => Ok(None),
            Challenge::Basic => {
                let header = identity.credentials.map(basic).transpose()?;
                match header {
                    None => Err(RegistryError::NoCredentials {
                        verb: "Get",
                        url: endpoint.base().to_string(),
                    }),
                    Some(header) if sent == Some(&header) => Ok(None),
                    header => Ok(header),
                }
            }
            bearer => self.token(endpoint, identity, bearer, sent).await.map(Some),
        }
    }

    /// A token from the cache, or a new one; `refused` is one that the registry did not take. Those who want the same at the
    /// same time wait for one request.
    async fn token(
        &self,
        endpoint: &Endpoint,
        identity: Identity<'_>,
        challenge: Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let cell = self.cell(TokenKey {
            credentials: identity.credentials.cloned(),
            scopes: identity.scopes.to_vec(),
            challenge: challenge.clone(),
        });
        let mut token = cell.lock().await;
        if let Some(token) = &*token
            && token.until > Instant::now()
            && Some(&token.header) != refused
        {
            return Ok(token.header.clone());
        }
        let answer = fetch(endpoint, identity, &challenge, false).await?;
        let life = Duration::from_secs(answer.expires_in.unwrap_or(0)).max(TOKEN_LIFE_MIN);
        let header = answer.header()?;
        *token = Some(Token {
            header: header.clone(),
            until: Instant::now() + (life - TOKEN_LIFE_REST),
        });
        Ok(header)
    }

    fn cell(&self, key: TokenKey) -> TokenCell {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.entry(key).or_default().clone()
    }
}

/// Asks a token server. `offline` asks for a refresh token too.
pub async fn fetch(
    endpoint: &Endpoint,
    identity: Identity<'_>,
    challenge: &Challenge,
    offline: bool,
) -> Result<TokenAnswer, RegistryError> {
    let Challenge::Bearer { realm, service } = challenge else {
        return Err(RegistryError::Unusable("no token server is named".into()));
    };
    let url = realm_url(endpoint, realm, identity.credentials.is_some())?;
    let ask = TokenRequest {
        endpoint,
        identity,
        url,
        service: service.as_deref(),
        offline,
    };
    if identity
        .credentials
        .is_some_and(|c| c.identity_token.is_some())
    {
        return ask.post().await;
    }
    match ask.get().await {
        Err(error) if ask.may_post_instead(&error) => ask.post().await,
        other => other,
    }
}

/// The URL of a token server, if it may be asked; see the rule above.
fn realm_url(
    endpoint: &Endpoint,
    realm: &str,
    with_credentials: bool,
) -> Result<Url, RegistryError> {
    let refuse = |reason| RegistryError::Refused {
        url: realm.to_owned(),
        reason,
    };
    let url = Url::parse(realm).map_err(|_| refuse("the token server's URL is not one"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("the token server's URL has a user in it"));
    }
    endpoint.check_outside(&url)?;
    let host = url.host_str().unwrap_or_default();
    let own_host = host_of(&endpoint.server.authority);
    let both_here = endpoint.loopback && is_loopback_name(host);
    let at_home = host_of(host) == own_host || endpoint.is_same_host(&url) || both_here;
    if !at_home && !endpoint.is_verified() && (with_credentials || url.scheme() != "https") {
        return Err(refuse(
            "an insecure registry may not have credentials sent to another host",
        ));
    }
    Ok(url)
}

struct TokenRequest<'a> {
    endpoint: &'a Endpoint,
    identity: Identity<'a>,
    url: Url,
    service: Option<&'a str>,
    offline: bool,
}

impl TokenRequest<'_> {
    /// Some token servers only know OAuth 2.
    fn may_post_instead(&self, error: &RegistryError) -> bool {
        let refused = matches!(
            error.status(),
            Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
        );
        refused && self.identity.credentials.is_some()
    }

    async fn get(&self) -> Result<TokenAnswer, RegistryError> {
        let mut url = self.url.clone();
        let mut header = None;
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.identity.scopes {
                query.append_pair("scope", scope);
            }
            if self.offline {
                query.append_pair("offline_token", "true");
                query.append_pair("client_id", CLIENT_ID);
            }
            if let Some(credentials) = self.identity.credentials {
                query.append_pair("account", &credentials.username);
                header = Some(basic(credentials)?);
            }
        }
        let request = Outgoing {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
        };
        self.send(request, header).await
    }

    async fn post(&self) -> Result<TokenAnswer, RegistryError> {
        let none = Credentials::default();
        let credentials = self.identity.credentials.unwrap_or(&none);
        let scopes = self.identity.scopes.join(" ");
        let mut form = vec![
            ("service", self.service.unwrap_or_default()),
            ("client_id", CLIENT_ID),
        ];
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        match &credentials.identity_token {
            Some(token) => form.extend([("grant_type", "refresh_token"), ("refresh_token", token)]),
            None => form.extend([
                ("grant_type", "password"),
                ("username", &credentials.username),
                ("password", &credentials.password),
            ]),
        }
        if self.offline {
            form.push(("access_type", "offline"));
        }
        let text = serde_urlencoded::to_string(form)
            .map_err(|error| RegistryError::Settings(error.to_string()))?;
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        let request = Outgoing {
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body: Some(text.into()),
        };
        self.send(request, None).await
    }

    async fn send(
        &self,
        request: Outgoing,
        header: Option<HeaderValue>,
    ) -> Result<TokenAnswer, RegistryError> {
        let client = self.endpoint.outside(&request.url);
        let response = self
            .endpoint
            .once(client, &request, header.as_ref())
            .await?;
        let timeout = self.endpoint.read_timeout();
        if !response.status().is_success() {
            return Err(body::refusal(response, &request.method, "NAME_UNKNOWN", timeout).await);
        }
        let bytes = body::whole(response, TOKEN_ANSWER_MAX, "the token", timeout).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            RegistryError::Unusable(format!("unable to decode token response: {error}"))
        })
    }
}

/// A user's name and password as a header.
pub fn basic(credentials: &Credentials) -> Result<HeaderValue, RegistryError> {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    secret(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

fn secret(text: String) -> Result<HeaderValue, RegistryError> {
    let mut value: HeaderValue = text.parse().map_err(|_| {
        RegistryError::Unusable("the token has characters that do not go into a header".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}
