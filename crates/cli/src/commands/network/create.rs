//! `network create`: make a network.

use cais_types::api::{ConfigReference, Ipam, NetworkCreateRequest};

use super::connect::csv;
use super::ipam;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::pairs;
use crate::error::{CliError, Result};
use crate::flags::{Flag, Parsed, flag, switch};
use cais_options::env::check_label;

/// The verb.
pub const COMMAND: Command = Command {
    name: "create",
    other_names: &[],
    top: None,
    about: "Make a network",
    usage: "[OPTIONS] NETWORK",
    aliases: &[],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("attachable", "Let containers join by hand"),
    flag(
        "aux-address",
        "map",
        "Addresses the driver may not give out",
    )
    .default("map[]"),
    flag(
        "config-from",
        "string",
        "The network the configuration is taken from",
    ),
    switch(
        "config-only",
        "Keep only a configuration for other networks",
    ),
    flag("driver", "string", "Driver of the network")
        .short('d')
        .default("\"bridge\""),
    flag("gateway", "strings", "IPv4 or IPv6 gateway of a subnet"),
    switch("ingress", "Make the routing mesh of a swarm"),
    switch("internal", "Let nobody out of the network"),
    flag(
        "ip-range",
        "strings",
        "Give addresses out of this part of a subnet",
    ),
    flag("ipam-driver", "string", "Driver that gives addresses").default("\"default\""),
    flag(
        "ipam-opt",
        "map",
        "Option of the driver that gives addresses",
    )
    .default("map[]"),
    switch("ipv4", "Give IPv4 addresses").default("true"),
    switch("ipv6", "Give IPv6 addresses"),
    flag("label", "list", "Label of the network").check(check_label),
    flag("opt", "map", "Option of the driver")
        .short('o')
        .default("map[]"),
    flag("scope", "string", "How far the network reaches"),
    flag("subnet", "strings", "Subnet in CIDR form"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let answer = app.client()?.network_create(&request(args)?).await?;
    app.printer.line(&answer.id);
    Ok(0)
}

fn request(args: &Parsed) -> Result<NetworkCreateRequest> {
    let map = |name: &str| pairs::map(&args.list(name));
    let asked = ipam::Asked {
        subnets: csv(args.list("subnet")),
        ranges: csv(args.list("ip-range")),
        gateways: csv(args.list("gateway")),
        auxiliary: map("aux-address"),
    };
    let truth = |name: &str| args.changed(name).then(|| args.switch(name));
    let config_from = args.string("config-from");
    Ok(NetworkCreateRequest {
        name: args.positionals[0].clone(),
        driver: args.value("driver").unwrap_or("bridge").to_owned(),
        scope: args.string("scope"),
        enable_ipv4: truth("ipv4"),
        enable_ipv6: truth("ipv6"),
        ipam: Some(Ipam {
            driver: args.value("ipam-driver").unwrap_or("default").to_owned(),
            options: Some(map("ipam-opt")),
            config: Some(asked.configs().map_err(CliError::new)?),
        }),
        internal: args.switch("internal"),
        attachable: args.switch("attachable"),
        ingress: args.switch("ingress"),
        config_only: args.switch("config-only"),
        config_from: (!config_from.is_empty()).then_some(ConfigReference {
            network: config_from,
        }),
        options: Some(map("opt")),
        labels: Some(map("label")),
        // Daemons before API 1.44 look for the name only when asked to.
        check_duplicate: Some(true),
    })
}
