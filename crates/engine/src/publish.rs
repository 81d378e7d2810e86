//! Ports of an existing container, published and taken back while it runs: first the wishes in its record, then the network
//! room, then what came of it. A daemon that died in between is followed by one that does what the wishes say.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_sys::failpoint;
use cais_types::api::{Empty, HostConfig, PortBinding, PortMap};
use cais_types::{Error, Result};

use crate::container::Container;
use crate::house::{House, blocking};
use crate::network;
use crate::ports::PortRequest;
use crate::record::{NetworkMode, Record};

/// What an update asks of a container's ports.
#[derive(Debug, Default)]
pub struct Change {
    /// To be published.
    pub add: Vec<PortRequest>,
    /// To be taken back: by container port, and by host address and port where those are given.
    pub remove: Vec<PortRequest>,
}

impl Change {
    /// From the fields of a request.
    pub fn new(add: Option<&PortMap>, remove: Option<&PortMap>) -> Self {
        Self {
            add: requests(add),
            remove: requests(remove),
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Changes the wishes that the next start is made from.
    ///
    /// # Errors
    /// Conflict: the container has no network of its own; Invalid: nothing is published that is to be taken back.
    pub fn apply(&self, record: &Record) -> Result<(HostConfig, BTreeMap<String, Empty>)> {
        if record.network_mode() != NetworkMode::Networks {
            return Err(Error::conflict(
                "ports can be published for containers with networks of their own only",
            ));
        }
        let mut host = record.host_config.clone();
        let mut exposed = record.config.exposed_ports.clone();
        let wishes = host.port_bindings.get_or_insert_default();
        for request in &self.remove {
            take_back(wishes, record, request)?;
        }
        for request in &self.add {
            let port = &request.container_port;
            exposed.insert(port.clone(), Empty {});
            let wished = wishes.entry(port.clone()).or_default();
            let wished = wished.get_or_insert_default();
            for binding in &request.bindings {
                // Who asks again for a port that is chosen gets no second one.
                if binding.host_port.is_empty() || !wished.contains(binding) {
                    wished.push(binding.clone());
                }
            }
        }
        Ok((host, exposed))
    }
}

/// Changes the ports of a container whose operation lock the caller holds: all of it or nothing.
///
/// # Errors
/// Those of [`Change::apply`], and those of the network room.
pub async fn change(house: &Arc<House>, container: &Arc<Container>, change: &Change) -> Result<()> {
    let before = container.record();
    let (host, exposed) = change.apply(&before)?;
    let record = house.store.change(container, |record| {
        record.host_config = host;
        record.config.exposed_ports = exposed;
    })?;
    if !record.state.status.has_process() {
        return Ok(());
    }
    failpoint::reach("publish-wished");
    let published = {
        let (house, wanted) = (Arc::clone(house), network::ports(&record));
        let (id, remove) = (record.id, change.remove.clone());
        blocking(move || house.ports.sandboxes.republish(&id, &wanted, &remove)).await
    };
    let missing = |ports: &Published| {
        let mut asked = change.add.iter();
        asked.any(|request| !ports.contains_key(&request.container_port))
    };
    let failure = match published {
        Ok(ports) if !missing(&ports) => {
            failpoint::reach("publish-made");
            house
                .store
                .change(container, |record| record.network.ports = ports)?;
            return Ok(());
        }
        Ok(_) => {
            Error::invalid("no port can be published: the container is on internal networks only")
        }
        Err(error) => error,
    };
    house.store.change(container, |record| {
        record.host_config.clone_from(&before.host_config);
        record
            .config
            .exposed_ports
            .clone_from(&before.config.exposed_ports);
    })?;
    Err(failure)
}

type Published = BTreeMap<String, Vec<PortBinding>>;

fn requests(map: Option<&PortMap>) -> Vec<PortRequest> {
    let ports = map.into_iter().flatten();
    let request = |(port, bindings): (&String, &Option<Vec<PortBinding>>)| PortRequest {
        container_port: if port.contains('/') {
            port.clone()
        } else {
            format!("{port}/tcp")
        },
        bindings: match bindings {
            Some(bindings) if !bindings.is_empty() => bindings.clone(),
            _ => vec![PortBinding::default()],
        },
    };
    ports.map(request).collect()
}

/// A wish goes when it is named as it was written, or by the host address and port that it got.
fn take_back(wishes: &mut PortMap, record: &Record, request: &PortRequest) -> Result<()> {
    let port = &request.container_port;
    let got = record
        .network
        .ports
        .get(port)
        .map_or(&[][..], Vec::as_slice);
    let missing = || Error::invalid(format!("port {port} is not published"));
    let wished = wishes.get_mut(port).and_then(Option::as_mut);
    let wished = wished.ok_or_else(missing)?;
    for asked in &request.bindings {
        // Without a host port all go; one host port is one wish's, first of all that of the one that says so.
        let said = |wish: &PortBinding| covers(asked, wish);
        let all: Vec<usize> = (0..wished.len())
            .filter(|index| said(&wished[*index]) || gave(wished, *index, got, asked))
            .collect();
        let first = all.iter().find(|index| said(&wished[**index]));
        let first = first.or(all.first()).copied().ok_or_else(missing)?;
        let mut index = 0..;
        let one = !asked.host_port.is_empty();
        wished.retain(|_| {
            let index = index.next().unwrap_or_default();
            if one {
                index != first
            } else {
                !all.contains(&index)
            }
        });
    }
    if wished.is_empty() {
        wishes.remove(port);
    }
    Ok(())
}

/// Whether a binding is what is asked for; empty fields ask for nothing.
fn covers(asked: &PortBinding, binding: &PortBinding) -> bool {
    (asked.host_ip.is_empty() || asked.host_ip == binding.host_ip)
        && (asked.host_port.is_empty() || asked.host_port == binding.host_port)
}

/// Whether what is asked for is a host address and port that one of the wishes left open and got.
fn gave(wished: &[PortBinding], index: usize, got: &[PortBinding], asked: &PortBinding) -> bool {
    let wish = &wished[index];
    let range = |port: &str| {
        let number = |text: &str| text.parse::<u16>().ok();
        let (first, last) = wish.host_port.split_once('-')?;
        let port = number(port)?;
        Some(number(first)? <= port && port <= number(last)?)
    };
    let open = |one: &PortBinding| {
        (wish.host_ip.is_empty() || wish.host_ip == one.host_ip)
            && (covers(wish, one) || range(&one.host_port).unwrap_or(false))
    };
    let mut got = got.iter();
    got.any(|one| covers(asked, one) && open(one) && !wished.contains(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ports: &[(&str, &str, &str)]) -> PortMap {
        let mut map = PortMap::new();
        for (port, ip, number) in ports {
            let wished = map.entry((*port).to_owned()).or_default();
            wished.get_or_insert_default().push(PortBinding {
                host_ip: (*ip).to_owned(),
                host_port: (*number).to_owned(),
            });
        }
        map
    }

    fn record(wishes: &[(&str, &str, &str)], got: &[(&str, &str, &str)]) -> Record {
        let mut record = crate::spec::tests::record(|_, _| ());
        record.host_config.network_mode = "bridge".to_owned();
        record.host_config.port_bindings = Some(map(wishes));
        let got = map(got).into_iter();
        record.network.ports = got.map(|(port, list)| (port, list.unwrap())).collect();
        record
    }

    #[test]
    fn wishes_follow_what_is_asked() {
        let record = record(
            &[
                ("80/tcp", "", ""),
                ("80/tcp", "127.0.0.1", "81"),
                ("53/udp", "", "53"),
            ],
            &[
                ("80/tcp", "0.0.0.0", "32768"),
                ("80/tcp", "127.0.0.1", "81"),
            ],
        );
        let asked = |add: &[_], remove: &[_]| {
            let (add, remove) = (map(add), map(remove));
            Change::new(Some(&add), Some(&remove)).apply(&record)
        };
        let (host, exposed) = asked(&[("90", "", "9090")], &[("80/tcp", "", "32768")]).unwrap();
        let left = map(&[
            ("80/tcp", "127.0.0.1", "81"),
            ("53/udp", "", "53"),
            ("90/tcp", "", "9090"),
        ]);
        assert_eq!(host.port_bindings, Some(left));
        assert!(exposed.contains_key("90/tcp"));
        let (host, _) = asked(&[], &[("80", "", "")]).unwrap();
        assert_eq!(host.port_bindings, Some(map(&[("53/udp", "", "53")])));
        let (again, _) = asked(&[("53/udp", "", "53")], &[]).unwrap();
        assert_eq!(again.port_bindings, record.host_config.port_bindings);
        for wrong in [
            ("80/tcp", "", "9"),
            ("80/tcp", "127.0.0.1", "32768"),
            ("82/tcp", "", ""),
        ] {
            let error = asked(&[], &[wrong]).unwrap_err();
            let want = format!("port {} is not published", wrong.0);
            assert_eq!(error.to_string(), want, "{wrong:?}");
        }
    }

    #[test]
    fn one_of_two_free_choices_goes_by_its_port_or_address() {
        let record = record(
            &[("80/tcp", "", ""), ("80/tcp", "", "")],
            &[("80/tcp", "0.0.0.0", "1"), ("80/tcp", "0.0.0.0", "2")],
        );
        let left = |ip, port| {
            let remove = map(&[("80/tcp", ip, port)]);
            let (host, _) = Change::new(None, Some(&remove)).apply(&record).unwrap();
            host.port_bindings
                .unwrap()
                .remove("80/tcp")
                .flatten()
                .map_or(0, |list| list.len())
        };
        assert_eq!(left("", "2"), 1);
        assert_eq!(left("0.0.0.0", "1"), 1);
        assert_eq!(left("0.0.0.0", ""), 0);
    }
}
