//! `POST /containers/create`: checks, the image's defaults, the read/write layer, volumes, and the record. All or nothing.

pub mod defaults;
pub mod merge;
pub mod validate;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use cais_types::api::{
    ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, EndpointSettings, HostConfig,
};
use cais_types::oci::Platform;
use cais_types::{ContainerId, Error, Result};

use crate::house::House;
use crate::links::{self, Link, Linked};
use crate::mounts::{self, MountKind, MountRecord, Resolver};
use crate::names;
use crate::ports::ResolvedImage;
use crate::record::{NetworkMode, NetworkState, Record};
use crate::spec::security::Security;
use crate::state::State;
use crate::time;

/// Attempts at a free generated name.
const NAME_ATTEMPTS: u32 = 8;

/// Makes a container. Blocks: it unpacks nothing, but may copy an image's directory into a volume and fsyncs once.
///
/// # Errors
/// Docker's: no such image, name in use, wrong configuration, volumes, disk full.
pub fn create(
    house: &House,
    name: Option<&str>,
    platform: Option<&Platform>,
    request: ContainerCreateRequest,
) -> Result<ContainerCreateResponse> {
    let bare = name
        .filter(|name| !name.is_empty())
        .map(names::check)
        .transpose()?;
    let (mut config, mut host) = (request.config, request.host_config);
    if config.image.is_empty() {
        return Err(Error::invalid("no image specified"));
    }
    validate::check_modes(&config, &host)?;
    let image = house.ports.rootfs.resolve(&config.image, platform)?;
    let other_platform = match platform {
        None => of_another_platform(&image),
        Some(_) => None,
    };
    merge::merge(&mut config, &image.config)?;
    defaults::host(&mut host, &house.config);
    validate::check(&config, &host)?;
    Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let wanted = request
        .networking_config
        .map(|networking| networking.endpoints_config);
    let endpoints = endpoints(house, &config, &host, wanted.unwrap_or_default())?;
    let links = links::resolve(house, &host)?;
    let seed = random()?;
    let id = ContainerId::from_bytes(seed);
    if let Some(owner) = host.network_mode.strip_prefix("container:") {
        // Who shares a network goes by its owner's names.
        let owner = house.store.find(owner).map_err(not_the_image)?.record();
        config.hostname.clone_from(&owner.config.hostname);
        config.domainname.clone_from(&owner.config.domainname);
    }
    defaults::hostname(&mut config, &host, &id);
    let name = reserve(house, bare, id, &seed)?;
    let draft = Draft {
        id,
        name: &name,
        config,
        host,
        endpoints,
        links,
        image,
    };
    match draft.make(house) {
        Ok(mut warnings) => {
            warnings.extend(other_platform);
            Ok(ContainerCreateResponse {
                id: id.to_string(),
                warnings,
            })
        }
        Err(error) => {
            house.store.release(&name, &id);
            roll_back(house, &id);
            Err(error)
        }
    }
}

/// Docker's warning of an image that is not for this machine, when nobody asked for a platform.
fn of_another_platform(image: &ResolvedImage) -> Option<String> {
    let host = Platform::host();
    let unknown = image.platform.architecture.is_empty();
    let other = !unknown && host.fit(&image.platform).is_none();
    other.then(|| {
        format!(
            "The requested image's platform ({}) does not match the detected host platform ({host}) \
             and no specific platform was requested",
            image.platform
        )
    })
}

/// 32 random bytes.
///
/// # Errors
/// The kernel's random source failed.
pub fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match drawn {
        Ok(32) => Ok(bytes),
        _ => Err(Error::internal("cannot draw a random id")),
    }
}

fn reserve(house: &House, bare: Option<&str>, id: ContainerId, seed: &[u8; 32]) -> Result<String> {
    if let Some(name) = bare {
        house.store.reserve(name, id)?;
        return Ok(name.to_owned());
    }
    for attempt in 0..NAME_ATTEMPTS {
        let at = attempt as usize * 2;
        let mut word = [0; 8];
        word.copy_from_slice(&seed[at..at + 8]);
        let name = names::generate(u64::from_le_bytes(word), attempt);
        if house.store.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
    let name = id.short();
    house.store.reserve(&name, id)?;
    Ok(name)
}

/// The networks to join: the one of `NetworkMode`, and those of `NetworkingConfig`.
fn endpoints(
    house: &House,
    config: &ContainerConfig,
    host: &HostConfig,
    mut wanted: BTreeMap<String, EndpointSettings>,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mode = host.network_mode.as_str();
    if config.network_disabled || mode.starts_with("container:") {
        return Ok(BTreeMap::new());
    }
    if mode == "host" || mode == "none" {
        return Ok([(mode.to_owned(), wanted.remove(mode).unwrap_or_default())].into());
    }
    if let Some(settings) = wanted.remove("default") {
        wanted
            .entry(house.config.default_network.clone())
            .or_insert(settings);
    }
    wanted.entry(mode.to_owned()).or_default();
    if !config.mac_address.is_empty()
        && let Some(settings) = wanted.get_mut(mode)
        && settings.mac_address.is_empty()
    {
        settings.mac_address.clone_from(&config.mac_address);
    }
    // Kept by name, as Docker does, whatever the user called them by.
    let mut endpoints = BTreeMap::new();
    for (network, settings) in wanted {
        let facts = match house.ports.sandboxes.facts(&network) {
            // Without a default bridge, who would be on it is alone.
            Err(_) if network == "bridge" => {
                endpoints.insert(network, settings);
                continue;
            }
            facts => facts.map_err(not_the_image)?,
        };
        let checked = house.ports.sandboxes.check(&facts.name, &settings);
        checked.map_err(|error| {
            let text = format!("invalid config for network {network}: {}", error.message());
            Error::invalid(text)
        })?;
        endpoints.insert(facts.name, settings);
    }
    Ok(endpoints)
}

/// Clients pull the image when a create answers that something is not found.
fn not_the_image(error: Error) -> Error {
    Error::invalid(error.message())
}

fn roll_back(house: &House, id: &ContainerId) {
    let ports = &house.ports;
    let undone = [ports.volumes.release(id, true), ports.rootfs.remove(id)];
    for error in undone.into_iter().filter_map(Result::err) {
        tracing::warn!(%id, %error, "cleaning up after a failed create");
    }
    // It may not have been made yet.
    let _ = std::fs::remove_dir_all(house.directory(id));
}

/// A checked container that is not on disk yet.
struct Draft<'a> {
    id: ContainerId,
    name: &'a str,
    config: ContainerConfig,
    host: HostConfig,
    endpoints: BTreeMap<String, EndpointSettings>,
    links: Vec<Link>,
    image: ResolvedImage,
}

impl Draft<'_> {
    fn make(self, house: &House) -> Result<Vec<String>> {
        let other = |name: &str| -> Result<Vec<MountRecord>> {
            let other = house.store.find(name).map_err(not_the_image)?;
            Ok(other.record().mounts.clone())
        };
        let mut mounts = mounts::wishes(&self.config, &self.host, &other)?;
        let directory = house.directory(&self.id);
        DirBuilder::new()
            .mode(0o710)
            .create(&directory)
            .map_err(|error| {
                Error::internal(format!("cannot make {}: {error}", directory.display()))
            })?;
        house.ports.rootfs.create(&self.id, &self.image.id)?;
        if mounts.iter().any(|mount| mount.kind != MountKind::Tmpfs) {
            let dirs = house.ports.rootfs.dirs(&self.id, &self.image.id)?;
            let resolver = Resolver {
                volumes: &*house.ports.volumes,
                container: &self.id,
            };
            resolver.resolve(&mut mounts, &dirs)?;
        }
        let warnings = defaults::warnings(&self.host);
        let record = self.record(mounts);
        debug_assert!(
            !matches!(record.network_mode(), NetworkMode::Networks if record.endpoints.is_empty())
        );
        let durability = record.durability();
        let container = house.store.insert(record, durability)?;
        house.events.container(&container.record(), "create", &[]);
        Ok(warnings)
    }

    fn record(self, mounts: Vec<MountRecord>) -> Record {
        let (path, args) = merge::command(&self.config);
        Record {
            id: self.id,
            name: self.name.to_owned(),
            created: time::now(),
            path,
            args,
            image: self.image.id,
            config: self.config,
            host_config: self.host,
            mounts,
            endpoints: self.endpoints,
            network: NetworkState::default(),
            former_addresses: BTreeMap::new(),
            links: self.links,
            linked: Linked::default(),
            state: State::default(),
            restart_count: 0,
            health: None,
        }
    }
}
