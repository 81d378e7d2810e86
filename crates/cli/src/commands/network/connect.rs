//! `network connect`: put a container on a network.

use cais_types::api::{EndpointIpamConfig, EndpointSettings, NetworkConnectRequest};

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::pairs;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};

/// The verb.
pub const COMMAND: Command = Command {
    name: "connect",
    other_names: &[],
    top: None,
    about: "Put a container on a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    aliases: &[],
    arguments: Arguments::Exact(2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "alias",
        "strings",
        "Another name of the container on this network",
    ),
    flag("driver-opt", "strings", "Option of the network driver"),
    flag(
        "gw-priority",
        "int",
        "The highest one gives the default route; negative numbers are accepted",
    ),
    flag("ip", "string", "IPv4 address (such as \"172.30.100.104\")"),
    flag("ip6", "string", "IPv6 address (such as \"2001:db8::33\")"),
    flag("link", "list", "Link to another container"),
    flag("link-local-ip", "strings", "Link-local address"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let options = csv(args.list("driver-opt"));
    if options.iter().any(|option| !option.contains('=')) {
        return Err(CliError::new(
            "invalid key/value pair format in driver options",
        ));
    }
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: args.string("ip"),
            ipv6_address: args.string("ip6"),
            link_local_ips: csv(args.list("link-local-ip")),
        }),
        links: some(args.list("link")),
        aliases: some(csv(args.list("alias"))),
        driver_opts: Some(pairs::map(&options)).filter(|map| !map.is_empty()),
        gw_priority: args.int("gw-priority", 0),
        ..EndpointSettings::default()
    };
    let request = NetworkConnectRequest {
        container: args.positionals[1].clone(),
        endpoint_config: Some(endpoint),
    };
    app.client()?
        .network_connect(&args.positionals[0], &request)
        .await?;
    Ok(0)
}

/// A flag that takes several values at once, with commas between them.
pub(super) fn csv(values: Vec<String>) -> Vec<String> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect()
}
