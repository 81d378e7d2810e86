//! What older versions of the API say otherwise, one function per object and one paragraph per difference.

use cais_types::api::{
    ContainerCreateRequest, ContainerInspect, ContainerSummary, ImageInspect, ImageSummary,
    NetworkingConfig, SystemInfo,
};
use cais_types::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::version::Version;

/// Brings a create request of an older client to today's meaning; answers warnings for the client.
///
/// # Errors
/// Invalid: the request asks for something its version has not.
pub fn container_create(
    version: Version,
    request: &mut ContainerCreateRequest,
) -> Result<Vec<String>> {
    let host = &mut request.host_config;
    for mount in &mut host.mounts {
        if let Some(bind) = &mut mount.bind_options {
            bind.non_recursive &= !version.before(40);
            bind.create_mountpoint &= !version.before(42);
            bind.read_only_non_recursive &= !version.before(44);
            bind.read_only_force_recursive &= !version.before(44);
        }
        if version.before(48) && mount.r#type == "image" {
            return Err(Error::invalid(
                "mount type image needs API version 1.48 or newer",
            ));
        }
    }
    if version.before(41) && host.cgroupns_mode.is_empty() {
        "host".clone_into(&mut host.cgroupns_mode);
    }
    if version.before(42) {
        host.console_size = [0, 0];
    }
    if version.before(43) {
        host.annotations.clear();
    }
    if version.before(44)
        && let Some(health) = &mut request.config.healthcheck
    {
        health.start_interval = 0;
    }
    if version.before(48)
        && let Some(networking) = &mut request.networking_config
    {
        for endpoint in networking.endpoints_config.values_mut() {
            endpoint.gw_priority = 0;
        }
    }
    single_endpoint(version, request)?;
    Ok(mac_address(version, request))
}

/// Before 1.44 a container was created on one network only.
fn single_endpoint(version: Version, request: &ContainerCreateRequest) -> Result<()> {
    let count = request
        .networking_config
        .as_ref()
        .map_or(0, |config| config.endpoints_config.len());
    if version.before(44) && count > 1 {
        let message = "Container cannot be created with multiple network endpoints";
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// Before 1.44 the MAC address was the container's; it belongs to the endpoint of its first network.
fn mac_address(version: Version, request: &mut ContainerCreateRequest) -> Vec<String> {
    if request.config.mac_address.is_empty() {
        return Vec::new();
    }
    let address = std::mem::take(&mut request.config.mac_address);
    let mode = match request.host_config.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    };
    let networking = request
        .networking_config
        .get_or_insert_with(NetworkingConfig::default);
    let endpoints = &mut networking.endpoints_config;
    let name = if mode == "bridge" && endpoints.contains_key("default") {
        "default"
    } else {
        mode
    };
    let endpoint = endpoints.entry(name.to_owned()).or_default();
    if endpoint.mac_address.is_empty() {
        endpoint.mac_address = address;
    }
    if version.before(44) {
        return Vec::new();
    }
    vec![
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .to_owned(),
    ]
}

/// A list of containers as a version has it.
pub fn container_list(version: Version, rows: &mut [ContainerSummary]) {
    for row in rows {
        if version.before(46) {
            row.host_config.annotations.clear();
        }
        if version.before(48) {
            row.image_manifest_descriptor = None;
        }
    }
}

/// A container as a version has it.
///
/// # Errors
/// Internal: it cannot be printed.
pub fn container_inspect(version: Version, mut container: ContainerInspect) -> Result<Value> {
    let settings = &mut container.network_settings;
    // 1.44 made the MAC address one of the endpoint.
    if version.before(44) {
        let mode = container.host_config.network_mode.as_str();
        let mode = if matches!(mode, "" | "default") {
            "bridge"
        } else {
            mode
        };
        if let Some(endpoint) = settings.networks.get(mode) {
            container
                .config
                .mac_address
                .clone_from(&endpoint.mac_address);
        }
    }
    // 1.45 took the short id out of the aliases; it is in DNSNames.
    if version.before(45) {
        let short: String = container.id.chars().take(12).collect();
        for endpoint in settings.networks.values_mut() {
            if !endpoint.network_id.is_empty() {
                endpoint.aliases.get_or_insert_default().push(short.clone());
            }
        }
    }
    if version.before(48) {
        container.image_manifest_descriptor = None;
    }
    to_value(&container)
}

/// A list of images as a version has it.
pub fn image_list(version: Version, images: &mut [ImageSummary]) {
    for image in images {
        if version.before(44) {
            image.virtual_size = image.size;
        }
        if version.before(48) {
            image.descriptor = None;
        }
    }
}

/// An image as a version has it.
///
/// # Errors
/// Internal: it cannot be printed.
pub fn image_inspect(version: Version, mut image: ImageInspect) -> Result<Value> {
    if version.before(44) {
        image.virtual_size = image.size;
    }
    if version.before(48) {
        image.descriptor = None;
    }
    let id = image.id.clone();
    let mut value = to_value(&image)?;
    // 1.50 dropped the fields of a container's configuration that an image never has.
    if version.before(50)
        && let Some(config) = value.get_mut("Config").and_then(Value::as_object_mut)
    {
        for name in ["Hostname", "Domainname", "Image"] {
            config.insert(name.to_owned(), json!(""));
        }
        for name in [
            "AttachStdin",
            "AttachStdout",
            "AttachStderr",
            "OpenStdin",
            "StdinOnce",
            "Tty",
        ] {
            config.insert(name.to_owned(), json!(false));
        }
        config.sort_keys();
    }
    // 1.45 dropped the container that a build step was committed from.
    if version.before(45)
        && let Some(fields) = value.as_object_mut()
    {
        let config = fields.get("Config").cloned().unwrap_or_default();
        fields.insert("Container".to_owned(), json!(""));
        fields.insert("ContainerConfig".to_owned(), config);
        fields.insert("Id".to_owned(), json!(id));
    }
    Ok(value)
}

/// What the engine says about itself, as a version has it.
///
/// # Errors
/// Internal: it cannot be printed.
pub fn info(version: Version, mut info: SystemInfo) -> Result<Value> {
    // 1.49 added the firewall.
    if version.before(49) {
        info.firewall_backend = None;
    }
    let mut value = to_value(&info)?;
    let Some(fields) = value.as_object_mut() else {
        return Ok(value);
    };
    // 1.50 dropped two fields about bridges, 1.49 the expected commits.
    if version.before(50) {
        fields.insert("BridgeNfIptables".to_owned(), json!(false));
        fields.insert("BridgeNfIp6tables".to_owned(), json!(false));
    }
    if version.before(49) {
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            expect_commit(fields, name);
        }
    }
    Ok(value)
}

fn expect_commit(fields: &mut Map<String, Value>, name: &str) {
    if let Some(commit) = fields.get_mut(name).and_then(Value::as_object_mut) {
        let id = commit.get("ID").cloned().unwrap_or_default();
        commit.insert("Expected".to_owned(), id);
    }
}

fn to_value<T: Serialize>(object: &T) -> Result<Value> {
    serde_json::to_value(object)
        .map_err(|error| Error::internal("cannot print the answer").with_source(error))
}
