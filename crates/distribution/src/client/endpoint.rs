//! One server: its connections, which scheme it speaks, and where it may send us.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{NoProxy, Proxy, Response, Url};

use super::address::{Guard, Insecure, host_of, is_loopback_name};
use super::auth::Authority;
use super::config::{ClientConfig, Proxies};
use super::error::{RegistryError, transport_reason, verb, waited_for_head};
use super::hosts::Server;
use super::tls::{self, TlsFiles};
use super::transfers::blocking;

/// Redirects followed, as Go does.
pub const REDIRECTS_MAX: usize = 10;

/// A server of a registry.
pub struct Endpoint {
    pub server: Server,
    /// Whether it may speak plain HTTP or show any certificate.
    pub insecure: bool,
    /// Whether it is on this machine.
    pub loopback: bool,
    pub authority: Authority,
    /// Whether it turned out to speak plain HTTP.
    speaks_plain: AtomicBool,
    /// Connections to the server itself.
    own: reqwest::Client,
    /// Connections to where it sends us: no client certificate, no way to this machine unless it is there itself.
    outside: reqwest::Client,
    config: ClientConfig,
}

/// A request that can be sent again.
#[derive(Clone)]
pub struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<bytes::Bytes>,
}

impl Endpoint {
    /// Prepares connections; none is made yet.
    pub async fn new(
        server: Server,
        config: &ClientConfig,
        insecure: &Insecure,
    ) -> Result<Self, RegistryError> {
        let insecure = server.skip_verify || insecure.holds(&server.authority).await;
        let loopback = is_loopback_name(host_of(&server.authority));
        if !(Guard { loopback: true }).allows_host(host_of(&server.authority)) {
            return Err(RegistryError::Refused {
                url: server.base.to_string(),
                reason: "its address is not one of a registry",
            });
        }
        let (settings, files) = (config.clone(), server.tls.clone());
        let (own, outside) = blocking(move || {
            let to_server = Connections {
                guard: Guard { loopback: true },
                verify: !insecure,
                identify: true,
            };
            let elsewhere = Connections {
                guard: Guard { loopback },
                verify: true,
                identify: false,
            };
            let own = to_server.client(&settings, &files)?;
            Ok::<_, RegistryError>((own, elsewhere.client(&settings, &files)?))
        })
        .await??;
        Ok(Self {
            authority: Authority::default(),
            speaks_plain: AtomicBool::new(server.base.scheme() == "http"),
            insecure,
            loopback,
            own,
            outside,
            config: config.clone(),
            server,
        })
    }

    /// The URL below which the paths of the registry are.
    pub fn base(&self) -> Url {
        let mut base = self.server.base.clone();
        if self.speaks_plain.load(Ordering::Relaxed) {
            // Only fails for schemes of other kinds.
            let _ = base.set_scheme("http");
        }
        base
    }

    /// Whether who answered has proved to be the server.
    pub fn is_verified(&self) -> bool {
        !self.insecure && !self.speaks_plain.load(Ordering::Relaxed)
    }

    /// Whether a URL is at this server.
    pub fn is_at(&self, url: &Url) -> bool {
        let base = &self.server.base;
        let same_scheme = base.scheme() == url.scheme() || self.may_speak_plain();
        same_scheme && base.host_str() == url.host_str() && base.port() == url.port()
    }

    fn may_speak_plain(&self) -> bool {
        self.insecure && !self.server.scheme_fixed
    }

    /// Whether a URL is at this server's host, at any port.
    pub fn is_same_host(&self, url: &Url) -> bool {
        self.server.base.host_str() == url.host_str()
    }

    /// A URL that the server named, made whole. A server behind a proxy that ends TLS may call itself `http`.
    pub fn located(&self, from: &Url, location: &str) -> Result<Url, RegistryError> {
        let mut url = from.join(location).map_err(|_| RegistryError::Refused {
            url: location.to_owned(),
            reason: "it is not a URL",
        })?;
        let base = self.base();
        if base.scheme() == "https" && url.scheme() == "http" && self.is_same_host(&url) {
            let _ = url.set_scheme("https");
        }
        Ok(url)
    }

    /// Connections for a URL that is not at this server.
    pub fn outside(&self, url: &Url) -> &reqwest::Client {
        match self.is_same_host(url) {
            true => &self.own,
            false => &self.outside,
        }
    }

    fn guard(&self) -> Guard {
        Guard {
            loopback: self.loopback,
        }
    }

    /// Whether a URL that the server named may be asked: over TLS unless the server itself is insecure, and at no address that
    /// the server's own side would not name.
    pub fn check_outside(&self, url: &Url) -> Result<(), RegistryError> {
        let refuse = |reason| RegistryError::Refused {
            url: url.to_string(),
            reason,
        };
        match url.scheme() {
            "https" => {}
            "http" if !self.is_verified() => {}
            "http" => return Err(refuse("it is not encrypted, and the registry is")),
            _ => return Err(refuse("its scheme is neither https nor http")),
        }
        let host = url.host_str().ok_or_else(|| refuse("it names no host"))?;
        if !self.is_same_host(url) && !self.guard().allows_host(host) {
            return Err(refuse("its address is not one of a registry"));
        }
        Ok(())
    }

    /// Sends a request to this server, and goes where it sends us (GET and HEAD only). `authorization` stays here.
    pub async fn transmit(
        &self,
        mut request: Outgoing,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let follows = matches!(request.method, Method::GET | Method::HEAD);
        for _ in 0..=REDIRECTS_MAX {
            let at_home = self.is_at(&request.url);
            let response = if at_home {
                self.transmit_home(&mut request, authorization).await?
            } else {
                self.check_outside(&request.url)?;
                let client = self.outside(&request.url);
                self.once(client, &request, None).await?
            };
            let Some(location) = redirect(&response).filter(|_| follows) else {
                return Ok(response);
            };
            request.url = self.located(&request.url, &location)?;
        }
        Err(RegistryError::Transport {
            verb: verb(&request.method),
            url: request.url.to_string(),
            reason: format!("stopped after {REDIRECTS_MAX} redirects"),
            passing: false,
        })
    }

    /// Sends to the server itself; an insecure one gets a second chance over the other scheme.
    async fn transmit_home(
        &self,
        request: &mut Outgoing,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let first = self.once(&self.own, request, authorization).await;
        let was_plain = request.url.scheme() == "http";
        let doubtful = match &first {
            Err(RegistryError::Transport { .. }) => true,
            Ok(response) => was_plain && response.status() == StatusCode::BAD_REQUEST,
            Err(_) => false,
        };
        if !self.may_speak_plain() || !doubtful {
            return first;
        }
        let mut switched = request.clone();
        let _ = switched
            .url
            .set_scheme(if was_plain { "https" } else { "http" });
        match self.once(&self.own, &switched, authorization).await {
            // What servers of TLS answer to plain HTTP.
            Ok(response) if !was_plain && response.status() == StatusCode::BAD_REQUEST => first,
            Ok(response) => {
                self.speaks_plain.store(!was_plain, Ordering::Relaxed);
                *request = switched;
                Ok(response)
            }
            Err(_) if was_plain => first,
            Err(error) => Err(error),
        }
    }

    /// Sends once, follows nothing.
    pub async fn once(
        &self,
        client: &reqwest::Client,
        request: &Outgoing,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut headers = request.headers.clone();
        if self.is_at(&request.url) {
            headers.extend(self.server.headers.clone());
        }
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(headers);
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let limit = self.config.connect_timeout + self.config.read_timeout;
        match tokio::time::timeout(limit, builder.send()).await {
            Ok(answer) => answer.map_err(|error| self.transport(request, &error)),
            Err(_) => Err(RegistryError::Transport {
                verb: verb(&request.method),
                url: request.url.to_string(),
                reason: waited_for_head(),
                passing: true,
            }),
        }
    }

    /// Sends a body as it comes into being, to this server only and once.
    pub async fn stream(
        &self,
        request: &Outgoing,
        authorization: Option<&HeaderValue>,
        body: reqwest::Body,
    ) -> Result<Response, RegistryError> {
        let mut headers = request.headers.clone();
        let client = if self.is_at(&request.url) {
            headers.extend(self.server.headers.clone());
            if let Some(value) = authorization {
                headers.insert(AUTHORIZATION, value.clone());
            }
            &self.own
        } else {
            self.check_outside(&request.url)?;
            self.outside(&request.url)
        };
        client
            .request(request.method.clone(), request.url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(|error| self.transport(request, &error))
    }

    /// The error of a request that got no answer. One that did not reach the server is told as Docker tells it, who asks for
    /// `/v2/` first.
    fn transport(&self, request: &Outgoing, error: &reqwest::Error) -> RegistryError {
        let host = request.url.host_str().unwrap_or_default();
        let port = request.url.port_or_known_default().unwrap_or_default();
        let (reason, passing) = transport_reason(error, &format!("{host}:{port}"));
        // Who does not like our certificate says so after the handshake.
        let is_refused = reason.starts_with("remote error: tls: ");
        let unreached = (error.is_connect() || is_refused) && self.is_same_host(&request.url);
        let (verb, url) = if unreached {
            let mut base = self.server.base.clone();
            let _ = base.set_scheme(request.url.scheme());
            ("Get", base.to_string())
        } else {
            (verb(&request.method), request.url.to_string())
        };
        RegistryError::Transport {
            verb,
            url,
            reason,
            passing,
        }
    }

    /// How long an answer may let wait for more of its body.
    pub fn read_timeout(&self) -> Duration {
        self.config.read_timeout
    }
}

/// The target of a redirect.
pub fn redirect(response: &Response) -> Option<String> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    is_redirect.then(|| location.to_owned())
}

/// How connections are made.
pub struct Connections {
    pub guard: Guard,
    pub verify: bool,
    pub identify: bool,
}

impl Connections {
    /// A client that makes them; follows no redirect.
    pub fn client(
        &self,
        config: &ClientConfig,
        files: &TlsFiles,
    ) -> Result<reqwest::Client, RegistryError> {
        let tls = tls::settings(files, self.verify, self.identify)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(self.guard.shared())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .no_proxy()
            .user_agent(&config.user_agent)
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true);
        for proxy in proxies(&config.proxies)? {
            builder = builder.proxy(proxy);
        }
        builder
            .build()
            .map_err(|error| RegistryError::Settings(error.to_string()))
    }
}

/// The proxies as reqwest takes them.
pub fn proxies(settings: &Proxies) -> Result<Vec<Proxy>, RegistryError> {
    let direct = settings.no_proxy.as_deref().unwrap_or_default();
    if direct.split(',').any(|entry| entry.trim() == "*") {
        return Ok(Vec::new());
    }
    let direct = format!("localhost,127.0.0.0/8,::1,{direct}");
    let parse = |text: &String, make: fn(&str) -> reqwest::Result<Proxy>| {
        let url = if text.contains("://") {
            text.clone()
        } else {
            format!("http://{text}")
        };
        let proxy = make(&url)
            .map_err(|_| RegistryError::Settings(format!("invalid proxy {text:?}: not a URL")))?;
        Ok(proxy.no_proxy(NoProxy::from_string(&direct)))
    };
    let http = settings
        .http
        .as_ref()
        .map(|text| parse(text, |url| Proxy::http(url)));
    let https = settings
        .https
        .as_ref()
        .map(|text| parse(text, |url| Proxy::https(url)));
    http.into_iter().chain(https).collect()
}
