//! Requests to one server by one user: authentication, attempts, errors.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use reqwest::{Response, Url};

use super::auth::Identity;
use super::config::Credentials;
use super::endpoint::{Endpoint, Outgoing};
use super::error::{RegistryError, verb};
use super::retry::Patience;
use super::{body, challenge};

/// A server and who asks it.
#[derive(Clone)]
pub struct Session {
    pub endpoint: Arc<Endpoint>,
    credentials: Option<Credentials>,
    attempts: u32,
}

/// A request below a registry's base.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub target: Target,
    pub scopes: Vec<String>,
    pub headers: HeaderMap,
    pub body: Option<bytes::Bytes>,
    /// The code of a 404 that says nothing.
    pub unknown: &'static str,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Below `/v2/`.
    Path(String),
    /// As the registry said.
    Url(Url),
}

impl Call {
    /// A request without body and headers.
    pub fn new(method: Method, path: impl Into<String>, scopes: Vec<String>) -> Self {
        Self {
            method,
            target: Target::Path(path.into()),
            scopes,
            headers: HeaderMap::new(),
            body: None,
            unknown: "NAME_UNKNOWN",
        }
    }
}

impl Session {
    /// Only the registry itself gets the credentials.
    pub fn new(endpoint: Arc<Endpoint>, credentials: Option<&Credentials>, attempts: u32) -> Self {
        let mine = credentials.filter(|c| endpoint.server.origin && !c.is_empty());
        Self {
            credentials: mine.cloned(),
            endpoint,
            attempts,
        }
    }

    /// Who asks, for these scopes.
    pub fn identity<'a>(&'a self, scopes: &'a [String]) -> Identity<'a> {
        Identity {
            credentials: self.credentials.as_ref(),
            scopes,
        }
    }

    /// A fresh count of attempts.
    pub fn patience(&self) -> Patience {
        Patience::new(self.attempts)
    }

    fn outgoing(&self, call: &Call) -> Result<Outgoing, RegistryError> {
        let url = match &call.target {
            Target::Url(url) => url.clone(),
            Target::Path(path) => {
                let base = self.endpoint.base();
                let mut url = base
                    .join(path)
                    .map_err(|_| RegistryError::Settings(format!("invalid path {path:?}")))?;
                if let Some(namespace) = &self.endpoint.server.namespace {
                    url.query_pairs_mut().append_pair("ns", namespace);
                }
                url
            }
        };
        Ok(Outgoing {
            method: call.method.clone(),
            url,
            headers: call.headers.clone(),
            body: call.body.clone(),
        })
    }

    /// Sends once, proving who we are where the server itself asks for it. Any status but 401 is an answer.
    pub async fn ask(&self, call: &Call) -> Result<Response, RegistryError> {
        let request = self.outgoing(call)?;
        let identity = self.identity(&call.scopes);
        let authority = &self.endpoint.authority;
        let sent = authority.ready(&self.endpoint, identity).await?;
        let response = self
            .endpoint
            .transmit(request.clone(), sent.as_ref())
            .await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.endpoint.is_at(response.url()) {
            return Ok(response);
        }
        let Some(challenge) = challenge::of_answer(response.headers()) else {
            return Ok(response);
        };
        let place = (verb(&call.method), response.url().clone());
        let answer = authority
            .answer(&self.endpoint, identity, challenge, sent.as_ref())
            .await
            .map_err(|error| match error {
                RegistryError::NoCredentials { .. } => RegistryError::NoCredentials {
                    verb: place.0,
                    url: place.1.to_string(),
                },
                other => other,
            })?;
        match answer {
            None => Ok(response),
            Some(header) => {
                drop(response);
                let request = self.outgoing(call)?;
                self.endpoint.transmit(request, Some(&header)).await
            }
        }
    }

    /// Sends once; a status that is no success is an error.
    pub async fn once(&self, call: &Call) -> Result<Response, RegistryError> {
        let response = self.ask(call).await?;
        self.checked(response, call).await
    }

    /// Sends until it works or there is no hope.
    pub async fn send(&self, call: &Call) -> Result<Response, RegistryError> {
        let mut patience = self.patience();
        loop {
            let error = match self.once(call).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let Some(wait) = patience.after(&error) else {
                return Err(error);
            };
            tracing::debug!("{error}; again in {wait:?}");
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a body as it comes into being, once.
    pub async fn stream(
        &self,
        call: &Call,
        body: reqwest::Body,
    ) -> Result<Response, RegistryError> {
        let request = self.outgoing(call)?;
        let identity = self.identity(&call.scopes);
        let authority = &self.endpoint.authority;
        let header = authority.ready(&self.endpoint, identity).await?;
        let response = self
            .endpoint
            .stream(&request, header.as_ref(), body)
            .await?;
        self.checked(response, call).await
    }

    async fn checked(&self, response: Response, call: &Call) -> Result<Response, RegistryError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let timeout = self.endpoint.read_timeout();
        Err(body::refusal(response, &call.method, call.unknown, timeout).await)
    }

    /// How long an answer may let wait for more of its body.
    pub fn read_timeout(&self) -> std::time::Duration {
        self.endpoint.read_timeout()
    }
}
