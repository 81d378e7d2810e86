//! Ports of an existing container, published and taken back while it runs: the wishes in its record, and the network room.

use std::collections::BTreeMap;

use cais_types::api::{Empty, HostConfig, PortBinding, PortMap};
use cais_types::{Error, Result};

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
            wished
                .get_or_insert_default()
                .extend(request.bindings.iter().cloned());
        }
        Ok((host, exposed))
    }
}

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

/// A wish goes when it is named as it was written, or by the host port that it got.
fn take_back(wishes: &mut PortMap, record: &Record, request: &PortRequest) -> Result<()> {
    let port = &request.container_port;
    let got = record.network.ports.get(port).into_iter().flatten();
    let got: Vec<&PortBinding> = got.collect();
    let named = |wish: &PortBinding| {
        request.bindings.iter().any(|asked| {
            let address = asked.host_ip.is_empty()
                || wish.host_ip.is_empty()
                || asked.host_ip == wish.host_ip;
            let number = asked.host_port.is_empty() || asked.host_port == wish.host_port;
            let chosen = wish.host_port.is_empty() || wish.host_port.contains('-');
            let by_chance = chosen && got.iter().any(|one| one.host_port == asked.host_port);
            address && (number || by_chance)
        })
    };
    let wished = wishes.get_mut(port).and_then(Option::as_mut);
    let before = wished.as_ref().map_or(0, |list| list.len());
    let after = wished.map_or(0, |list| {
        list.retain(|wish| !named(wish));
        list.len()
    });
    if after == before {
        return Err(Error::invalid(format!("port {port} is not published")));
    }
    if after == 0 {
        wishes.remove(port);
    }
    Ok(())
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
        let error = asked(&[], &[("80/tcp", "", "9")]).unwrap_err();
        assert_eq!(error.to_string(), "port 80/tcp is not published");
    }
}
