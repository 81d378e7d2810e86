//! `/networks`: the network store joined with containers and events.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::api::query::Filters;
use cais_types::api::{
    EndpointResource, EndpointSettings, Network, NetworkConnectRequest, NetworkCreateRequest,
    NetworkCreateResponse, NetworkDisconnectRequest, NetworkPruneResponse,
};
use cais_types::{Error, ErrorClass, Result};

use cais_engine::connect;
use cais_engine::filter::PruneFilter;
use cais_engine::house::{House, blocking};

/// Networks that are always there.
const PREDEFINED: &[&str] = &["bridge", "host", "none"];

/// What the service needs from the network store, in wire models without containers. Blocking.
pub trait NetworkCatalog: Send + Sync {
    /// Every network, the predefined ones included.
    fn all(&self) -> Result<Vec<Network>>;
    /// By name, id or unique start of an id. Not found: `network NAME not found`.
    fn find(&self, name: &str) -> Result<Network>;
    /// Conflict: `network with name NAME already exists`.
    fn create(&self, request: &NetworkCreateRequest) -> Result<Network>;
    /// Removes a network without endpoints, by id.
    fn remove(&self, id: &str) -> Result<()>;
}

/// The networks of the engine.
pub struct Networks {
    house: Arc<House>,
    catalog: Arc<dyn NetworkCatalog>,
}

impl Networks {
    /// Joins the store with the engine's containers and events.
    pub fn new(house: Arc<House>, catalog: Arc<dyn NetworkCatalog>) -> Self {
        Self { house, catalog }
    }

    async fn with_catalog<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn NetworkCatalog) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let catalog = Arc::clone(&self.catalog);
        blocking(move || work(&*catalog)).await
    }

    /// `GET /networks`.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = filters
            .contains("dangling")
            .then(|| filters.bool_or("dangling", false))
            .transpose()?;
        if let Some(odd) = filters
            .get("type")
            .iter()
            .find(|kind| !matches!(kind.as_str(), "builtin" | "custom"))
        {
            return Err(Error::invalid(format!("invalid filter: 'type'='{odd}'")));
        }
        let mut networks = self.with_catalog(|catalog| catalog.all()).await?;
        networks.retain(|network| {
            let builtin = PREDEFINED.contains(&network.name.as_str());
            let contains = |name: &str, text: &str| {
                filters.get(name).is_empty()
                    || filters
                        .get(name)
                        .iter()
                        .any(|part| text.contains(part.as_str()))
            };
            filters.matches("driver", &network.driver)
                && filters.matches_prefix("id", &network.id)
                && filters.matches_map("label", &network.labels)
                && contains("name", &network.name)
                && filters.matches("scope", &network.scope)
                && filters.matches("type", if builtin { "builtin" } else { "custom" })
                && dangling.is_none_or(|dangling| {
                    dangling == (!builtin && self.endpoints(&network.id).is_empty())
                })
        });
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(networks)
    }

    /// `GET /networks/{name}`.
    ///
    /// # Errors
    /// Not found.
    pub async fn inspect(&self, name: &str) -> Result<Network> {
        let name = name.to_owned();
        let mut network = self
            .with_catalog(move |catalog| catalog.find(&name))
            .await?;
        network.containers = self.endpoints(&network.id);
        Ok(network)
    }

    /// The running containers on a network, by id.
    fn endpoints(&self, network: &str) -> BTreeMap<String, EndpointResource> {
        let mut endpoints = BTreeMap::new();
        for container in self.house.store.all() {
            let record = container.record();
            let on_it = record
                .network
                .endpoints
                .values()
                .find(|endpoint| endpoint.network_id == network);
            if let (true, Some(endpoint)) = (record.state.status.is_running(), on_it) {
                endpoints.insert(record.id.to_string(), resource(&record.name, endpoint));
            }
        }
        endpoints
    }

    /// `POST /networks/create`.
    ///
    /// # Errors
    /// Invalid: options or addresses; Conflict: the name.
    pub async fn create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        let network = self
            .with_catalog(move |catalog| catalog.create(&request))
            .await?;
        self.publish("create", &network, &[]);
        Ok(NetworkCreateResponse {
            id: network.id,
            warning: String::new(),
        })
    }

    /// `DELETE /networks/{name}`.
    ///
    /// # Errors
    /// Not found; Forbidden: predefined, or it has endpoints.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let network = self.inspect(name).await?;
        if PREDEFINED.contains(&network.name.as_str()) {
            let text = format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            );
            return Err(Error::new(ErrorClass::Forbidden, text));
        }
        if !network.containers.is_empty() {
            let text = format!(
                "error while removing network: network {} id {} has active endpoints ({})",
                network.name,
                network.id,
                active(&network)
            );
            return Err(Error::new(ErrorClass::Forbidden, text));
        }
        let id = network.id.clone();
        self.with_catalog(move |catalog| catalog.remove(&id))
            .await?;
        self.publish("destroy", &network, &[]);
        Ok(())
    }

    /// `POST /networks/{name}/connect`.
    ///
    /// # Errors
    /// See [`connect`].
    pub async fn connect(&self, name: &str, request: NetworkConnectRequest) -> Result<()> {
        let container = self.house.store.find(&request.container)?;
        let settings = request.endpoint_config.unwrap_or_default();
        connect::connect(&self.house, &container, name, settings).await
    }

    /// `POST /networks/{name}/disconnect`.
    ///
    /// # Errors
    /// See [`connect`].
    pub async fn disconnect(&self, name: &str, request: NetworkDisconnectRequest) -> Result<()> {
        let container = match self.house.store.find(&request.container) {
            Err(error) if request.force && error.class() == ErrorClass::NotFound => {
                self.inspect(name).await?;
                let text = format!("endpoint {} not found", request.container);
                return Err(Error::not_found(text));
            }
            found => found?,
        };
        connect::disconnect(&self.house, &container, name, request.force).await
    }

    /// `POST /networks/prune`.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn prune(&self, filters: Filters) -> Result<NetworkPruneResponse> {
        let filter = PruneFilter::new(filters)?;
        let mut response = NetworkPruneResponse::default();
        for network in self.with_catalog(|catalog| catalog.all()).await? {
            let kept = network.config_only
                || PREDEFINED.contains(&network.name.as_str())
                || !self.endpoints(&network.id).is_empty();
            if kept || !filter.accepts(&network.created, &network.labels) {
                continue;
            }
            if self.remove(&network.id).await.is_ok() {
                response
                    .networks_deleted
                    .get_or_insert_default()
                    .push(network.name);
            }
        }
        self.house.events.publish(
            "network",
            "prune",
            "",
            BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]),
        );
        Ok(response)
    }

    fn publish(&self, action: &str, network: &Network, extra: &[(&str, &str)]) {
        let own = [
            ("name", network.name.as_str()),
            ("type", network.driver.as_str()),
        ];
        let attributes = own
            .iter()
            .chain(extra)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.house
            .events
            .publish("network", action, &network.id, attributes);
    }
}

fn active(network: &Network) -> String {
    let named = network
        .containers
        .values()
        .map(|one| format!("name:{:?} id:{:?}", one.name, short(&one.endpoint_id)));
    named.collect::<Vec<_>>().join(", ")
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn resource(name: &str, endpoint: &EndpointSettings) -> EndpointResource {
    let with_prefix = |address: &str, length: i64| {
        if address.is_empty() {
            String::new()
        } else {
            format!("{address}/{length}")
        }
    };
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac_address.clone(),
        ipv4_address: with_prefix(&endpoint.ip_address, endpoint.ip_prefix_len),
        ipv6_address: with_prefix(
            &endpoint.global_ipv6_address,
            endpoint.global_ipv6_prefix_len,
        ),
    }
}
