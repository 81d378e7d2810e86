//! Pull, push, search, login: the registry client joined with events, and its progress as the API's lines.

mod lines;
mod search;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cais_types::api::progress::TransferEvent;
use cais_types::api::query::{PullQuery, PushQuery};
use cais_types::api::{AuthConfig, AuthResponse, DistributionInspect, SearchResult};
use cais_types::oci::Platform;
use cais_types::{Digest, Error, Reference, Result};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use super::images::Images;
use super::pipe::Answers;
use cais_engine::house::House;
use lines::lines;

/// A transfer: its events, and its result, which must be polled for it to go on. Dropped, it ends.
pub struct Transfer {
    pub events: BoxStream<'static, TransferEvent>,
    /// Ids of the images it moved, as far as they are known.
    pub result: BoxFuture<'static, Result<Vec<Digest>>>,
}

/// What the service needs of a registry client and the image store behind it.
#[async_trait]
pub trait RegistryAccess: Send + Sync {
    fn pull(&self, query: PullQuery) -> Transfer;
    fn push(&self, query: PushQuery) -> Transfer;
    /// At most `limit` repositories that match.
    async fn search(
        &self,
        term: &str,
        limit: Option<u32>,
        auth: Option<AuthConfig>,
    ) -> Result<Vec<SearchResult>>;
    async fn login(&self, auth: AuthConfig) -> Result<AuthResponse>;
    async fn inspect(
        &self,
        name: &Reference,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect>;
}

/// The registries of the engine.
pub struct Registries {
    house: Arc<House>,
    images: Arc<Images>,
    access: Arc<dyn RegistryAccess>,
}

impl Registries {
    /// Joins the client with images and events.
    pub fn new(house: Arc<House>, images: Arc<Images>, access: Arc<dyn RegistryAccess>) -> Self {
        Self {
            house,
            images,
            access,
        }
    }

    /// `POST /images/create?fromImage=`: progress as JSON lines. Dropping them ends the pull.
    ///
    /// # Errors
    /// What fails before there is anything to tell.
    pub async fn pull(&self, query: PullQuery) -> Result<Answers<Bytes>> {
        let reference = query.reference.clone();
        let transfer = self.access.pull(query);
        lines(transfer, self.publish("pull", reference)).await
    }

    /// A pull that nobody is told of.
    pub fn fetch(&self, query: PullQuery) -> Transfer {
        self.access.pull(query)
    }

    /// `POST /images/{name}/push`: progress as JSON lines. Dropping them ends the push.
    ///
    /// # Errors
    /// What fails before there is anything to tell; an image of another platform than the one asked for.
    pub async fn push(&self, query: PushQuery) -> Result<Answers<Bytes>> {
        if let Some(platform) = &query.platform {
            self.check_platform(&query.reference, platform).await?;
        }
        let reference = query.reference.clone();
        let transfer = self.access.push(query);
        lines(transfer, self.publish("push", reference)).await
    }

    /// `POST /auth`.
    ///
    /// # Errors
    /// Unauthorized; the network.
    pub async fn login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        self.access.login(auth).await
    }

    /// `GET /distribution/{name}/json`.
    ///
    /// # Errors
    /// An invalid name; not found; unauthorized; the network.
    pub async fn inspect(
        &self,
        name: &str,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        use cais_types::reference::AnyReference;
        match name.parse::<AnyReference>()? {
            AnyReference::Named(name) => self.access.inspect(&name, auth).await,
            AnyReference::Id(_) => Err(Error::invalid(format!(
                "unknown image reference format: {name}"
            ))),
        }
    }

    async fn check_platform(&self, name: &Reference, platform: &Platform) -> Result<()> {
        let name = name.clone().with_default_tag().familiar();
        let image = match self.images.inspect(&name, Some(platform.clone())).await {
            Ok(image) => image,
            Err(_) => self.images.inspect(&name, None).await?,
        };
        let own = Platform {
            os: image.os,
            architecture: image.architecture,
            variant: Some(image.variant).filter(|text| !text.is_empty()),
            ..Platform::default()
        }
        .normalized();
        if own == platform.clone().normalized() {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "image with reference {name} was found but its platform ({own}) does not match the specified platform ({platform})"
        )))
    }

    /// What is to be done once a transfer has moved its images.
    fn publish(
        &self,
        action: &'static str,
        reference: Reference,
    ) -> impl FnOnce(Vec<Digest>) -> BoxFuture<'static, ()> + Send + 'static {
        let (house, images) = (Arc::clone(&self.house), Arc::clone(&self.images));
        move |moved| {
            Box::pin(async move {
                let mut attributes = match moved.first() {
                    Some(id) => images.labels(*id).await,
                    None => BTreeMap::new(),
                };
                attributes.insert("name".to_owned(), reference.familiar_name());
                let id = reference.familiar();
                house.events.publish("image", action, &id, attributes);
            })
        }
    }
}
