//! What all connections share, and the way of one request: route, who is it, handler, what every answer has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};

use super::auth::Auth;
use super::call::{Call, Query};
use super::error::RegistryError;
use super::gc::{self, Collected, GcPolicy};
use super::metrics::Metrics;
use super::proxy::Proxy;
use super::reply::{self, Body, OCI_NAMESPACE, Reply, Result};
use super::request_body::RequestBody;
use super::route::Route;
use super::store::Store;
use super::{blobs, listing, manifests, referrers, uploads};

/// Bounds of what clients may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one blob.
    pub upload: u64,
    /// How long a client may send or take nothing in the middle of a body.
    pub idle: Duration,
    /// No writing at all.
    pub read_only: bool,
    /// Manifests, tags and blobs may be deleted over HTTP.
    pub delete: bool,
}

/// A registry that can answer.
pub struct Registry {
    pub store: Store,
    pub auth: Auth,
    pub proxy: Proxy,
    pub limits: Limits,
    pub metrics: Metrics,
    pub gc: GcPolicy,
}

impl Registry {
    /// Refuses when deleting is off, tags too (CVE-2026-41888).
    ///
    /// # Errors
    /// 405.
    pub fn may_delete(&self) -> Result<()> {
        if self.limits.delete {
            Ok(())
        } else {
            Err(RegistryError::unsupported().with_detail("deleting is switched off"))
        }
    }

    /// Collects garbage and counts it. Blocking.
    ///
    /// # Errors
    /// The disk.
    pub fn collect(&self, policy: &GcPolicy) -> Result<Collected> {
        let collected = gc::collect(&self.store, policy, false)?;
        self.metrics.collected(&collected);
        tracing::info!(?collected, "garbage collection");
        Ok(collected)
    }

    /// Answers a request.
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>, peer: &str) -> Reply {
        let started = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let route = Route::parse(&path);
        let noun = route.as_ref().map_or("none", Route::noun);
        let result = match route {
            Ok(route) => self.handle(route, request).await,
            Err(error) => Err(error),
        };
        let reply = result.unwrap_or_else(|error| {
            tracing::debug!(%method, path, %error, "refused");
            reply::refusal(&error)
        });
        let reply = reply::complete(reply, method == Method::HEAD);
        let bytes = reply.body().size_hint().exact().unwrap_or(0);
        let (status, took) = (reply.status().as_u16(), started.elapsed());
        self.metrics.request(method.as_str(), noun, status, took);
        self.metrics.sent(bytes);
        tracing::info!(
            target: "access",
            peer, %method, path, status, bytes,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        );
        reply
    }

    async fn handle(self: &Arc<Self>, route: Route, request: Request<Incoming>) -> Result {
        match route {
            Route::Health => {
                return reply::finish(reply::status(StatusCode::OK), Body::from(b"ok\n".to_vec()));
            }
            Route::Metrics => {
                let builder = reply::status(StatusCode::OK)
                    .header(header::CONTENT_TYPE, "text/plain; version=0.0.4");
                let text = self.metrics.render(&self.store);
                return reply::finish(builder, text.into_bytes().into());
            }
            _ => {}
        }
        let (parts, body) = request.into_parts();
        let body = RequestBody::new(&parts.headers, body);
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let namespace = query.get("ns").map(str::to_owned);
        let is_here = |name: &_| self.store.read(|index| index.repository(name).is_some());
        let route = self.proxy.localize(route, namespace.as_deref(), is_here)?;
        let access = self
            .auth
            .check(&parts.headers, &route, &parts.method)
            .await?;
        let call = Call {
            query,
            method: parts.method,
            body,
            headers: parts.headers,
            access,
        };
        let mut reply = self.dispatch(route, call).await?;
        let namespace = namespace.and_then(|text| text.parse().ok());
        reply
            .headers_mut()
            .extend(namespace.map(|text| (OCI_NAMESPACE, text)));
        Ok(reply)
    }

    /// Refuses to push into an upstream's repository.
    fn may_push(&self, route: &Route) -> Result<()> {
        match route {
            Route::Manifest(name, _) | Route::Uploads(name) | Route::Upload(name, _)
                if self.proxy.owns(name) =>
            {
                Err(RegistryError::unsupported().with_detail("it is a cache of another registry"))
            }
            _ => Ok(()),
        }
    }

    /// Hands a request to the handler of its noun.
    ///
    /// # Errors
    /// Those of the handler; 405 for a method that the noun does not have.
    pub async fn dispatch(self: &Arc<Self>, route: Route, call: Call) -> Result {
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        if !reads && self.limits.read_only {
            return Err(RegistryError::unsupported().with_detail("the registry is read-only"));
        }
        if !reads && call.method != Method::DELETE {
            self.may_push(&route)?;
        }
        match (route, &call.method) {
            (Route::Base, _) if reads => {
                let builder = reply::status(StatusCode::OK);
                reply::json(builder, "application/json", &serde_json::json!({}))
            }
            (Route::Catalog, _) if reads => listing::catalog(self, call).await,
            (Route::Tags(name), _) if reads => listing::tags(self, call, name).await,
            (Route::Referrers(name, digest), _) if reads => {
                referrers::get(self, call, name, digest).await
            }
            (Route::Manifest(name, wanted), _) if reads => {
                manifests::get(self, call, name, wanted).await
            }
            (Route::Manifest(name, wanted), &Method::PUT) => {
                manifests::put(self, call, name, wanted).await
            }
            (Route::Manifest(name, wanted), &Method::DELETE) => {
                manifests::delete(self, name, wanted).await
            }
            (Route::Blob(name, digest), _) if reads => blobs::get(self, call, name, digest).await,
            (Route::Blob(name, digest), &Method::DELETE) => blobs::delete(self, name, digest).await,
            (Route::Uploads(name), &Method::POST) => uploads::open(self, call, name).await,
            (Route::Upload(name, id), &Method::PATCH) => uploads::add(self, call, name, id).await,
            (Route::Upload(name, id), &Method::PUT) => uploads::finish(self, call, name, id).await,
            (Route::Upload(name, id), &Method::DELETE) => uploads::cancel(self, name, id).await,
            (Route::Upload(name, id), _) if reads => uploads::ask(self, &name, &id),
            (route, _) => {
                Err(RegistryError::unsupported().with_header(header::ALLOW, methods(&route)))
            }
        }
    }
}

fn methods(route: &Route) -> &'static str {
    match route {
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        _ => "GET, HEAD",
    }
}
