//! One request: built step by step, sent over an idle or a new connection, its error answers turned into errors.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::{Answer, ByteStream};
use crate::body::{Body, RequestBody};
use crate::client::Client;
use crate::error::{ClientError, Result};
use crate::hijack::{self, Hijacked};
use crate::host::Host;
use crate::path::push_query;

/// An error answer longer than this is cut; no daemon writes such.
const ERROR_LIMIT: usize = 1 << 20;

/// A request that is being put together.
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: String,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    body: Body,
    /// False for `/_ping`, which has no version in its path.
    versioned: bool,
}

/// An answer whose body has not been read, and the connection it comes over.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    pub(crate) sender: SendRequest<RequestBody>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(client: &'a Client, method: Method, path: String) -> Self {
        Self {
            client,
            method,
            path,
            query: String::new(),
            content_type: None,
            headers: Vec::new(),
            body: Body::Empty,
            versioned: true,
        }
    }

    /// Leaves the version out of the path.
    #[must_use]
    pub(crate) fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, key: &str, value: &str) -> Self {
        push_query(&mut self.query, key, value);
        self
    }

    /// Adds a query parameter if there is a value for it.
    #[must_use]
    pub fn query_opt(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds `key=1` when set.
    #[must_use]
    pub fn query_flag(self, key: &str, set: bool) -> Self {
        if set { self.query(key, "1") } else { self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends a JSON document.
    ///
    /// # Errors
    /// [`ClientError::Decode`] when the value has no JSON form.
    pub fn json_body(mut self, value: &impl Serialize) -> Result<Self> {
        let text =
            serde_json::to_vec(value).map_err(|error| ClientError::Decode(error.to_string()))?;
        self.body = Body::Bytes(text.into());
        self.content_type = Some("application/json");
        Ok(self)
    }

    /// Sends a body of another type.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: Body) -> Self {
        self.content_type = Some(content_type);
        self.body = body;
        self
    }

    /// Sends the request and decodes the JSON answer.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        self.answer::<T>().await?.decode()
    }

    /// Sends the request and keeps the JSON answer as it came.
    pub async fn answer<T>(self) -> Result<Answer<T>> {
        Ok(Answer::new(self.bytes().await?))
    }

    /// Sends the request and reads its answer to the end.
    pub async fn bytes(self) -> Result<Bytes> {
        let client = self.client;
        let what = self.describe();
        let Exchange { response, sender } = self.send().await?;
        let bytes = collect(response, &what).await?;
        client.keep(sender);
        Ok(bytes)
    }

    /// Sends the request; nothing is expected back. True when the daemon changed something (not 304).
    pub async fn done(self) -> Result<bool> {
        let client = self.client;
        let what = self.describe();
        let Exchange { response, sender } = self.send().await?;
        let changed = response.status() != StatusCode::NOT_MODIFIED;
        collect(response, &what).await?;
        client.keep(sender);
        Ok(changed)
    }

    /// Sends the request and hands out the answer's body as it arrives.
    pub async fn stream(self) -> Result<ByteStream> {
        let Exchange { response, sender } = self.send().await?;
        Ok(ByteStream::new(response.into_body(), sender))
    }

    /// Sends the request and waits for the head of the answer only.
    pub(crate) async fn send(mut self) -> Result<Exchange> {
        if !self.body.is_replayable() && self.versioned {
            self.client.negotiate().await?;
        }
        loop {
            let exchange = self.attempt().await?;
            let status = exchange.response.status();
            if status.is_success() || status == StatusCode::NOT_MODIFIED {
                return Ok(exchange);
            }
            let what = self.describe();
            let bytes = collect(exchange.response, &what).await?;
            self.client.keep(exchange.sender);
            let error = error_answer(status, &bytes);
            if !self.retry_lower(&error) {
                return Err(error);
            }
        }
    }

    /// Takes the connection over: what follows the answer's head is a two-way stream.
    pub async fn hijack(self) -> Result<Hijacked> {
        self.upgrade("tcp").await
    }

    /// As [`Call::hijack`], for a stream of this protocol.
    pub async fn upgrade(mut self, protocol: &str) -> Result<Hijacked> {
        loop {
            let socket = self.client.socket(|| self.describe()).await?;
            let head = self.raw_head(protocol);
            let body = match &self.body {
                Body::Bytes(bytes) => bytes.clone(),
                _ => Bytes::new(),
            };
            match hijack::open(socket, head, body, self.describe()).await {
                Err(error) if self.retry_lower(&error) => {}
                result => return result,
            }
        }
    }

    fn retry_lower(&mut self, error: &ClientError) -> bool {
        self.versioned
            && self.body.is_replayable()
            && matches!(error, ClientError::Daemon { status: 400, message }
                if self.client.lower_version(message))
    }

    async fn attempt(&mut self) -> Result<Exchange> {
        if self.body.is_replayable()
            && let Some(mut sender) = self.client.idle()
        {
            // A daemon may close an idle connection at any time; then a new one is tried, once.
            match sender.try_send_request(self.request()?).await {
                Ok(response) => return Ok(Exchange { response, sender }),
                Err(failed) if failed.message().is_some() || unread(failed.error()) => {}
                Err(failed) => return Err(self.transport(&failed.into_error())),
            }
        }
        let mut sender = self.client.connect(|| self.describe()).await?;
        let request = self.request()?;
        match sender.send_request(request).await {
            Ok(response) => Ok(Exchange { response, sender }),
            Err(error) => Err(self.transport(&error)),
        }
    }

    fn transport(&self, error: &hyper::Error) -> ClientError {
        let cause = match std::error::Error::source(error) {
            _ if error.is_incomplete_message() => "EOF".to_owned(),
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        ClientError::Transport {
            request: self.describe(),
            cause,
        }
    }

    fn request(&mut self) -> Result<Request<RequestBody>> {
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(self.target())
            .header(header::HOST, self.host_header())
            .header(header::USER_AGENT, USER_AGENT);
        for (name, value) in &self.client.options().headers {
            builder = builder.header(name, value);
        }
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        if let Some(content_type) = self.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        builder
            .body(self.body.take())
            .map_err(|error| ClientError::Configuration(format!("invalid request: {error}")))
    }

    fn raw_head(&self, protocol: &str) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\n",
            self.method,
            self.target(),
            self.host_header()
        );
        let mut push = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        };
        for (name, value) in &self.client.options().headers {
            push(name, value);
        }
        for (name, value) in &self.headers {
            push(name, value);
        }
        if let (Some(content_type), Body::Bytes(bytes)) = (self.content_type, &self.body) {
            push("Content-Type", content_type);
            push("Content-Length", &bytes.len().to_string());
        } else {
            push("Content-Length", "0");
        }
        push("Connection", "Upgrade");
        push("Upgrade", protocol);
        head.push_str("\r\n");
        head
    }

    fn target(&self) -> String {
        let prefix = match self.client.host() {
            Host::Tcp { prefix, .. } => prefix.as_str(),
            _ => "",
        };
        if self.versioned {
            let minor = self.client.api_minor();
            format!("{prefix}/v1.{minor}{}{}", self.path, self.query)
        } else {
            format!("{prefix}{}{}", self.path, self.query)
        }
    }

    fn host_header(&self) -> &str {
        match self.client.host() {
            Host::Tcp { address, .. } => address,
            _ => "api.moby.localhost",
        }
    }

    /// Method and URL as Go's HTTP client names them in errors.
    fn describe(&self) -> String {
        let method = self.method.as_str();
        let authority = match self.client.host() {
            Host::Unix(path) => path.display().to_string().replace('/', "%2F"),
            Host::Tcp { address, .. } => address.clone(),
            Host::Ssh(text) => text.clone(),
        };
        format!(
            "{}{} \"http://{authority}{}\"",
            &method[..1],
            method[1..].to_ascii_lowercase(),
            self.target()
        )
    }
}

const USER_AGENT: &str = concat!("cais/", env!("CARGO_PKG_VERSION"), " (linux)");

/// The error an answer of a failed request stands for.
pub(crate) fn error_answer(status: StatusCode, body: &[u8]) -> ClientError {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let message = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) if !message.is_empty() => message,
        _ => {
            let text = String::from_utf8_lossy(body);
            match text.trim() {
                "" => format!("request returned {status} with no message"),
                text => text.to_owned(),
            }
        }
    };
    ClientError::Daemon {
        status: status.as_u16(),
        message,
    }
}

/// Whether the daemon closed the connection without having read the request: then it has not acted on it.
fn unread(error: &hyper::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        matches!(cause.kind(), ConnectionReset | BrokenPipe)
    })
}

async fn collect(response: Response<Incoming>, what: &str) -> Result<Bytes> {
    let broken = |error: hyper::Error| ClientError::Transport {
        request: what.to_owned(),
        cause: error.to_string(),
    };
    let failed = response.status().is_client_error() || response.status().is_server_error();
    if failed {
        let limited = http_body_util::Limited::new(response.into_body(), ERROR_LIMIT);
        return match limited.collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(ClientError::Decode(error.to_string())),
        };
    }
    Ok(response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes())
}
