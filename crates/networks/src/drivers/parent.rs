//! Drivers `macvlan` and `ipvlan`: interfaces of containers are children of an interface of the host, or of one that is
//! made for the network.

use std::net::IpAddr;

use rustix::io::Errno;

use super::{Leads, NetworkDriver, Options, Place, Surroundings};
use crate::config::Config;
use crate::error::NetworkError;
use crate::netlink::child::{self, ChildKind};
use crate::netlink::link::{self, IpvlanFlag, IpvlanMode, Mac, MacvlanMode};
use crate::netlink::{Messages, NetlinkError, Socket};
use crate::store::{EndpointRecord, NetworkRecord, ParentMode, ParentRecord};
use crate::wire::Attachment;

/// Driver `macvlan`.
pub struct Macvlan;

/// Driver `ipvlan`.
pub struct Ipvlan;

impl NetworkDriver for Macvlan {
    fn subnets(&self) -> usize {
        usize::MAX
    }

    fn plan(
        &self,
        record: &mut NetworkRecord,
        around: &Surroundings<'_>,
    ) -> Result<(), NetworkError> {
        let options = Options(&record.options);
        let text = options.text("macvlan_mode").unwrap_or("bridge");
        let mode = MacvlanMode::parse(text).ok_or_else(|| {
            let text = format!(
                "requested macvlan mode '{text}' is not valid, 'bridge' mode is the macvlan driver default"
            );
            NetworkError::Invalid(text)
        })?;
        record.mtu = options.mtu(0)?;
        plan(record, "dm", ParentMode::Macvlan(mode))?;
        alone(record, mode, around.others)
    }

    fn raise(&self, record: &NetworkRecord, _config: &Config) -> Result<u32, NetworkError> {
        raise(record)
    }

    fn lower(&self, record: &NetworkRecord) -> Result<(), NetworkError> {
        lower(record)
    }

    fn attachment(&self, place: &Place<'_>, endpoint: &EndpointRecord) -> Attachment {
        attachment(place, endpoint)
    }

    fn leads_out(&self, network: &NetworkRecord) -> Leads {
        if network.internal {
            Leads::Nowhere
        } else {
            Leads::ThroughGateway
        }
    }
}

impl NetworkDriver for Ipvlan {
    fn subnets(&self) -> usize {
        usize::MAX
    }

    fn plan(
        &self,
        record: &mut NetworkRecord,
        _around: &Surroundings<'_>,
    ) -> Result<(), NetworkError> {
        let options = Options(&record.options);
        let invalid = |text: String| NetworkError::Invalid(text);
        let text = options.text("ipvlan_mode").unwrap_or("l2");
        let mode = IpvlanMode::parse(text).ok_or_else(|| {
            invalid(format!(
                "requested ipvlan mode '{text}' is not valid, 'l2' mode is the ipvlan driver default"
            ))
        })?;
        let text = options.text("ipvlan_flag").unwrap_or("bridge");
        let flag = IpvlanFlag::parse(text).ok_or_else(|| {
            invalid(format!(
                "requested ipvlan flag '{text}' is not valid, 'bridge' is the ipvlan driver default"
            ))
        })?;
        record.mtu = options.mtu(0)?;
        probe()?;
        plan(record, "di", ParentMode::Ipvlan(mode, flag))
    }

    fn raise(&self, record: &NetworkRecord, _config: &Config) -> Result<u32, NetworkError> {
        raise(record)
    }

    fn lower(&self, record: &NetworkRecord) -> Result<(), NetworkError> {
        lower(record)
    }

    fn attachment(&self, place: &Place<'_>, endpoint: &EndpointRecord) -> Attachment {
        attachment(place, endpoint)
    }

    fn mac(&self, wanted: Option<Mac>, _: Option<IpAddr>) -> Result<Mac, NetworkError> {
        if wanted.is_some() {
            let text = "ipvlan interfaces do not support custom mac address assignment";
            return Err(NetworkError::Unsupported(text.to_owned()));
        }
        Ok(Mac::default())
    }

    fn leads_out(&self, network: &NetworkRecord) -> Leads {
        match network.parent.as_ref().map(|parent| parent.mode) {
            _ if network.internal => Leads::Nowhere,
            Some(ParentMode::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _)) => Leads::OnLink,
            _ => Leads::ThroughGateway,
        }
    }
}

/// A parent of the user's, a VLAN on one, or an interface that leads nowhere; the latter makes the network internal.
fn plan(record: &mut NetworkRecord, prefix: &str, mode: ParentMode) -> Result<(), NetworkError> {
    let (name, made) = match Options(&record.options).text("parent") {
        None => {
            record.internal = true;
            (format!("{prefix}-{}", record.id.short()), true)
        }
        Some("lo") => {
            let driver = record.driver.name();
            let text = format!("loopback interface is not a valid {driver} parent link");
            return Err(NetworkError::Invalid(text));
        }
        Some(name) => {
            let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
            let found = link::find(&socket, name).map_err(NetworkError::during("parent"))?;
            if found.is_none() {
                vlan(&socket, name)?;
            }
            (name.to_owned(), found.is_none())
        }
    };
    record.parent = Some(ParentRecord { name, made, mode });
    Ok(())
}

/// A passthru interface shares its parent with nobody.
fn alone(
    record: &NetworkRecord,
    mode: MacvlanMode,
    others: &[&NetworkRecord],
) -> Result<(), NetworkError> {
    let Some(own) = &record.parent else {
        return Ok(());
    };
    let name = &own.name;
    for other in others {
        let Some(parent) = other.parent.as_ref().filter(|parent| parent.name == *name) else {
            continue;
        };
        let taken = parent.mode == ParentMode::Macvlan(MacvlanMode::Passthru);
        let text = if mode == MacvlanMode::Passthru {
            format!(
                "cannot use mode passthru, macvlan network {} is already using parent interface {name}",
                other.name
            )
        } else if taken {
            format!(
                "macvlan network {} is already using parent interface {name} in mode passthru",
                other.name
            )
        } else {
            continue;
        };
        return Err(NetworkError::Forbidden(text));
    }
    Ok(())
}

/// Interface number of `eth0` and the id 10 of `eth0.10`.
fn vlan(socket: &Socket, name: &str) -> Result<(u32, u16), NetworkError> {
    let invalid = |text: String| NetworkError::Invalid(text);
    let parts = name.split_once('.');
    let parsed = parts.and_then(|(parent, id)| Some((parent, id.parse::<u32>().ok()?)));
    let Some((parent, id)) = parsed else {
        let text = format!("invalid subinterface vlan name {name}, example formatting is eth0.10");
        return Err(invalid(text));
    };
    let id = match u16::try_from(id) {
        Ok(id) if (1..=4094).contains(&id) => id,
        _ => {
            let text = format!("vlan id must be between 1-4094, received: {id}");
            return Err(invalid(text));
        }
    };
    let found = link::find(socket, parent).map_err(NetworkError::during("parent"))?;
    let found = found.ok_or_else(|| {
        let text = format!("failed to find master interface {parent} on the host: Link not found");
        invalid(text)
    })?;
    Ok((found.index, id))
}

/// Finds the parent, or makes it.
fn raise(record: &NetworkRecord) -> Result<u32, NetworkError> {
    let task = "parent interface";
    let Some(parent) = &record.parent else {
        return Err(NetworkError::NotFound(record.name.clone()));
    };
    let name = &parent.name;
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let find = || link::find(&socket, name).map_err(NetworkError::during(task));
    if let Some(found) = find()? {
        return Ok(found.index);
    }
    if !parent.made {
        let text = format!("the requested parent interface {name} was not found on the host");
        return Err(NetworkError::Invalid(text));
    }
    if Options(&record.options).text("parent").is_some() {
        let (lower, id) = vlan(&socket, name)?;
        let mut batch = Messages::new();
        child::add_vlan(&mut batch, name, lower, id);
        link::up_by_name(&mut batch, name);
        socket
            .run(&mut batch)
            .map_err(|error| unsupported(error, "802.1Q interfaces", task))?;
    } else {
        dead_end(&socket, name).map_err(NetworkError::during(task))?;
    }
    let found = find()?.ok_or_else(|| NetworkError::NotFound(name.clone()))?;
    Ok(found.index)
}

/// An interface that leads nowhere: a dummy, or, where the kernel has none, a pair with both ends here.
fn dead_end(socket: &Socket, name: &str) -> Result<(), NetlinkError> {
    let mut batch = Messages::new();
    child::add_dummy(&mut batch, name);
    link::up_by_name(&mut batch, name);
    match socket.run(&mut batch) {
        Err(error) if error.is(Errno::OPNOTSUPP) => {}
        other => return other,
    }
    let far = name.replacen('-', "_", 1);
    let mut batch = Messages::new();
    link::add_pair(&mut batch, name, &far);
    link::up_by_name(&mut batch, &far);
    link::up_by_name(&mut batch, name);
    socket.run(&mut batch)?;
    // Its carrier is noticed now and not later, see `wire`.
    link::find(socket, &far)?;
    Ok(())
}

fn lower(record: &NetworkRecord) -> Result<(), NetworkError> {
    let Some(parent) = record.parent.as_ref().filter(|parent| parent.made) else {
        return Ok(());
    };
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let mut batch = Messages::new();
    link::delete(&mut batch, &parent.name);
    match socket.run(&mut batch) {
        Err(error) if error.is(Errno::NODEV) => Ok(()),
        other => other.map_err(NetworkError::during("parent interface")),
    }
}

fn attachment(place: &Place<'_>, endpoint: &EndpointRecord) -> Attachment {
    let mode = place.network.parent.as_ref().map(|parent| parent.mode);
    Attachment::Child {
        parent: place.interface,
        passing: format!("ch{}", &endpoint.id[..12]),
        kind: match mode {
            Some(ParentMode::Ipvlan(mode, flag)) => ChildKind::Ipvlan(mode, flag),
            Some(ParentMode::Macvlan(mode)) => ChildKind::Macvlan(mode),
            None => ChildKind::Macvlan(MacvlanMode::default()),
        },
    }
}

/// Whether the kernel knows ipvlan; it says so before it looks at the parent.
fn probe() -> Result<(), NetworkError> {
    let socket = Socket::route().map_err(NetworkError::during("netlink socket"))?;
    let mut batch = Messages::new();
    child::probe_ipvlan(&mut batch);
    match socket.run(&mut batch) {
        Err(error) if error.is(Errno::OPNOTSUPP) => {
            Err(unsupported(error, "ipvlan interfaces", "ipvlan"))
        }
        _ => Ok(()),
    }
}

fn unsupported(error: NetlinkError, what: &str, task: &'static str) -> NetworkError {
    if error.is(Errno::OPNOTSUPP) {
        let text = format!("this kernel has no {what}");
        return NetworkError::Unsupported(text);
    }
    NetworkError::during(task)(error)
}
