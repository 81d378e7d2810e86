//! A registry in memory that does what a test tells it to, and remembers what it was asked.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use cais_types::Digest;
use cais_types::oci::{Descriptor, Manifest, media_type};
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::digest;
use super::memory::{config_of, gzip};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub body: Bytes,
}

/// An answer that a test made.
#[derive(Clone, Debug, Default)]
pub struct Canned {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

/// How it misbehaves.
#[derive(Default)]
pub struct Faults {
    /// A connection ends after so many bytes of a blob.
    pub cut_every: Option<usize>,
    /// Ranges are not known.
    pub ignore_range: bool,
    /// One byte of a blob per this time.
    pub drip: Option<Duration>,
    /// The answers to the next requests, whatever they are.
    pub next: VecDeque<Canned>,
    /// The answers to all requests for what begins so, in front of everything else.
    pub always: Vec<(String, Canned)>,
    /// Who does not show this is told the challenge.
    pub wants: Option<(String, String)>,
    /// Requests for what has this in it wait for a permit.
    pub gate: Option<(String, Arc<Semaphore>)>,
    /// Blobs come without their length.
    pub no_length: bool,
    /// Uploads in parts are answered with this status.
    pub refuse_parts: Option<u16>,
    /// The server that uploads are sent to, `http://host:port`.
    pub upload_to: String,
    /// Mounts are not done.
    pub refuse_mounts: bool,
    /// The next parts of uploads end their connection.
    pub cut_uploads: usize,
}

#[derive(Default)]
pub struct State {
    pub blobs: HashMap<String, Bytes>,
    /// By tag or digest, with the media type.
    pub manifests: HashMap<String, (String, Bytes)>,
    pub faults: Faults,
    pub seen: Vec<Seen>,
    /// Bytes of blobs that were sent.
    pub sent: usize,
    /// Uploads that are going on.
    pub uploads: HashMap<String, Vec<u8>>,
    started: usize,
}

pub struct Fake {
    pub authority: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// Speaks TLS.
    pub async fn start_tls(tls: rustls::ServerConfig) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        Self {
            authority,
            task: tokio::spawn(accept(listener, state.clone(), tls)),
            state,
        }
    }

    /// Ends all connections and listens again at the same place, with TLS or without.
    pub async fn restart(&mut self, tls: Option<rustls::ServerConfig>) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let listener = TcpListener::bind(&self.authority).await.unwrap();
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        self.task = tokio::spawn(accept(listener, self.state.clone(), tls));
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// `127.0.0.1:PORT/rest`.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.authority)
    }

    pub fn add_blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        self.state().blobs.insert(digest.to_string(), bytes);
        digest
    }

    /// Adds a document under its digest and a tag.
    pub fn add_manifest(&self, tag: &str, kind: &str, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let entry = (kind.to_owned(), Bytes::copy_from_slice(bytes));
        let mut state = self.state();
        state.manifests.insert(digest.to_string(), entry.clone());
        state.manifests.insert(tag.to_owned(), entry);
        digest
    }

    /// Adds an image of these plain layers, gzipped.
    pub fn add_image(&self, tag: &str, layers: &[Vec<u8>]) -> Manifest {
        self.add_image_for(tag, layers, "amd64")
    }

    pub fn add_image_for(&self, tag: &str, layers: &[Vec<u8>], architecture: &str) -> Manifest {
        let diffs: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
        let config = config_of(&diffs, architecture);
        let size = config.len() as u64;
        let config = Descriptor::new(media_type::CONFIG, self.add_blob(config), size);
        let layers = layers.iter().map(|layer| {
            let blob = gzip(layer);
            let size = blob.len() as u64;
            Descriptor::new(media_type::LAYER_GZIP, self.add_blob(blob), size)
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers: layers.collect(),
            subject: None,
            annotations: None,
        };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        self.add_manifest(tag, media_type::MANIFEST, &bytes);
        manifest
    }

    /// Requests whose path has this in it.
    pub fn asked(&self, part: &str) -> Vec<Seen> {
        let state = self.state();
        let seen = state.seen.iter().filter(|seen| seen.target.contains(part));
        seen.cloned().collect()
    }

    /// Whether any request showed who asks.
    pub fn saw_credentials(&self) -> bool {
        self.state().seen.iter().any(|s| s.authorization.is_some())
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, tls: Option<TlsAcceptor>) {
    // Connections end with the task that accepted them.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (state.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(TokioIo::new(stream), state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(TokioIo::new(stream), state).await;
                    }
                }
            }
        });
    }
}

async fn serve<I>(io: TokioIo<I>, state: Arc<Mutex<State>>)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { answer(request, state).await }
    });
    // A connection that a test cuts ends with an error.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(io, service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> io::Result<Response<Body>> {
    let text = |name| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (authorization, range) = (text(header::AUTHORIZATION), text(header::RANGE));
    let method = request.method().to_string();
    let target = request.uri().to_string();
    let is_part = method == "PATCH";
    let cut = |faults: &mut Faults| {
        let left = faults.cut_uploads;
        faults.cut_uploads = left.saturating_sub(usize::from(is_part));
        is_part && left > 0
    };
    if cut(&mut state.lock().unwrap().faults) {
        return Err(io::Error::other("cut"));
    }
    let body = request.into_body().collect().await;
    let seen = Seen {
        method,
        target,
        authorization,
        range,
        body: body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default(),
    };
    let gate = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        if let Some(canned) = told(&mut state.faults, &seen) {
            return Ok(canned);
        }
        state.faults.gate.clone()
    };
    if let Some((_, gate)) = gate.filter(|(part, _)| seen.target.contains(part)) {
        gate.acquire().await.unwrap().forget();
    }
    if seen.target.contains("/blobs/uploads/") {
        return Ok(upload(&seen, &mut state.lock().unwrap()));
    }
    Ok(content(&seen, &state))
}

/// Uploads: POST starts or mounts, PATCH adds, PUT ends; a manifest is just kept.
fn upload(seen: &Seen, state: &mut State) -> Response<Body> {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let parameter = |name: &str| {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap();
        pairs
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let location = |status, state: &State, id: &str| {
        let base = path[..path.find("/uploads/").unwrap()].to_owned();
        let to = format!("{}{base}/uploads/{id}", state.faults.upload_to);
        Canned {
            headers: vec![("location", to)],
            ..Canned::status(status)
        }
        .response()
    };
    let id = path.rsplit('/').next().unwrap().to_owned();
    match seen.method.as_str() {
        "POST" => {
            let mount = parameter("mount").filter(|_| !state.faults.refuse_mounts);
            if mount.is_some_and(|digest| state.blobs.contains_key(&digest)) {
                return Canned::status(201).response();
            }
            state.started += 1;
            let id = format!("u{}", state.started);
            state.uploads.insert(id.clone(), Vec::new());
            location(202, state, &id)
        }
        "PATCH" => {
            if let Some(status) = state.faults.refuse_parts {
                return Canned::status(status).response();
            }
            state
                .uploads
                .entry(id.clone())
                .or_default()
                .extend(&seen.body);
            location(202, state, &id)
        }
        "PUT" => {
            let mut bytes = state.uploads.remove(&id).unwrap_or_default();
            bytes.extend(&seen.body);
            let wanted = parameter("digest").unwrap();
            if digest(&bytes).to_string() != wanted {
                return Canned::status(400).response();
            }
            state.blobs.insert(wanted, bytes.into());
            Canned::status(201).response()
        }
        _ => {
            state.uploads.remove(&id);
            Canned::status(204).response()
        }
    }
}

/// An answer that the faults demand.
fn told(faults: &mut Faults, seen: &Seen) -> Option<Response<Body>> {
    if let Some(canned) = faults.next.pop_front() {
        return Some(canned.response());
    }
    let always = faults
        .always
        .iter()
        .find(|(start, _)| seen.target.starts_with(start));
    if let Some((_, canned)) = always {
        return Some(canned.response());
    }
    let (wanted, challenge) = faults.wants.as_ref()?;
    (seen.authorization.as_ref() != Some(wanted)).then(|| {
        Canned {
            status: 401,
            headers: vec![("www-authenticate", challenge.clone())],
            body: Bytes::from_static(
                br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
            ),
        }
        .response()
    })
}

impl Canned {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn json(text: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json".into())],
            body: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    pub fn redirect(to: &str) -> Self {
        Self {
            status: 307,
            headers: vec![("location", to.to_owned())],
            ..Self::default()
        }
    }

    fn response(&self) -> Response<Body> {
        let mut response = Response::new(whole(self.body.clone()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        for (name, value) in &self.headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }
}

fn content(seen: &Seen, state: &Arc<Mutex<State>>) -> Response<Body> {
    let mut locked = state.lock().unwrap();
    let path = seen.target.split('?').next().unwrap();
    if path == "/v2/" {
        return Canned::json("{}").response();
    }
    if path.ends_with("/tags/list") {
        let tags: Vec<&String> = locked
            .manifests
            .keys()
            .filter(|k| !k.contains(':'))
            .collect();
        return Canned::json(&serde_json::json!({"name": "x", "tags": tags}).to_string())
            .response();
    }
    if let Some((_, tag)) = path
        .split_once("/manifests/")
        .filter(|_| seen.method == "PUT")
    {
        let entry = ("application/json".to_owned(), seen.body.clone());
        locked.manifests.insert(tag.to_owned(), entry);
        return Canned::status(201).response();
    }
    if let Some((_, wanted)) = path.split_once("/manifests/") {
        return match locked.manifests.get(wanted) {
            None => Canned {
                status: 404,
                body: Bytes::from_static(
                    br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
                ..Canned::default()
            }
            .response(),
            Some((kind, bytes)) => {
                let mut response = Response::new(whole(bytes.clone()));
                let kind = kind.parse().unwrap();
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
        };
    }
    match path
        .split_once("/blobs/")
        .and_then(|(_, d)| locked.blobs.get(d).cloned())
    {
        None => Canned::status(404).response(),
        Some(blob) => blob_answer(seen, &mut locked, blob, state.clone()),
    }
}

fn blob_answer(
    seen: &Seen,
    state: &mut State,
    blob: Bytes,
    shared: Arc<Mutex<State>>,
) -> Response<Body> {
    let total = blob.len();
    let faults = &state.faults;
    let begin = seen.range.as_ref().filter(|_| !faults.ignore_range);
    let begin = begin.map(|text| {
        let text = text
            .strip_prefix("bytes=")
            .unwrap()
            .strip_suffix('-')
            .unwrap();
        text.parse::<usize>().unwrap()
    });
    let rest = blob.slice(begin.unwrap_or(0).min(total)..);
    let length = rest.len();
    let step = if faults.drip.is_some() { 1 } else { 4096 };
    let allowed = faults.cut_every.unwrap_or(usize::MAX).min(length);
    let cut = allowed < length;
    let drip = faults.drip;
    let parts: Vec<Bytes> = (0..allowed)
        .step_by(step)
        .map(|at| rest.slice(at..(at + step).min(allowed)))
        .collect();
    let good = stream::iter(parts).then(move |part| {
        let shared = shared.clone();
        async move {
            if let Some(pause) = drip {
                tokio::time::sleep(pause).await;
            }
            shared.lock().unwrap().sent += part.len();
            Ok(Frame::data(part))
        }
    });
    let end = stream::iter(cut.then_some(())).then(async |()| {
        // The server drops what it has not sent when a body fails.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(io::Error::other("cut"))
    });
    let mut response = Response::new(StreamBody::new(good.chain(end)).boxed_unsync());
    let headers = response.headers_mut();
    if !faults.no_length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if let Some(begin) = begin {
        let range = format!("bytes {begin}-{}/{total}", total - 1);
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn whole(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A proxy that takes every tunnel to one place.
pub async fn tunnel(to: &str) -> String {
    tunnel_by_name(&[("", to)]).await
}

/// A proxy that takes tunnels to the places of names that begin so; it ends with the test's runtime.
pub async fn tunnel_by_name(places: &[(&'static str, &str)]) -> String {
    let places: Vec<(&'static str, String)> = places
        .iter()
        .map(|(name, to)| (*name, (*to).to_owned()))
        .collect();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let places = places.clone();
            tokio::spawn(async move {
                // Ends when either side does.
                let _ = one_tunnel(client, &places).await;
            });
        }
    });
    authority
}

async fn one_tunnel(
    mut client: tokio::net::TcpStream,
    places: &[(&'static str, String)],
) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let wanted = head.strip_prefix("CONNECT ").unwrap_or_default();
    let place = places.iter().find(|(name, _)| wanted.starts_with(name));
    let Some((_, to)) = place.filter(|_| !wanted.is_empty()) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    let mut server = tokio::net::TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
