//! `network ls`: list networks.

use cais_types::api::Network;

use crate::app::App;
use crate::cell::{go_time, id, labels, natural_order, text};
use crate::command::{Arguments, Command, Invocation};
use crate::commands::check_filter;
use crate::commands::filtering::filters;
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row, label};

/// The verb.
pub const COMMAND: Command = Command {
    name: "ls",
    other_names: &["list"],
    top: None,
    about: "List networks",
    usage: "[OPTIONS]",
    aliases: &["network ls", "network list"],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "filter",
        "filter",
        "Show only what meets a condition (such as \"driver=bridge\")",
    )
    .short('f')
    .check(check_filter),
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    switch("no-trunc", "Do not shorten columns"),
    switch("quiet", "Show only network IDs").short('q'),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("ID", "NETWORK ID"),
        Column::new("Name", "NAME"),
        Column::new("Driver", "DRIVER"),
        Column::new("Scope", "SCOPE"),
        Column::new("IPv4", "IPV4"),
        Column::new("IPv6", "IPV6"),
        Column::new("Internal", "INTERNAL"),
        Column::new("Labels", "LABELS"),
        Column::new("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    go_type: "*network.networkContext",
};

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let quiet = args.switch("quiet");
    let format = match args.value("format") {
        Some(format) => format,
        None if quiet => "",
        None => &app.config().networks_format,
    };
    let template = match format {
        "raw" if quiet => "network_id: {{.ID}}".into(),
        "raw" => {
            "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n".into()
        }
        format => LISTING.template(format, quiet),
    };
    let mut networks = app.client()?.network_list(&filters(args)).await?.decode()?;
    networks.sort_by(|a, b| natural_order(&a.name, &b.name));
    let shorten = !args.switch("no-trunc");
    let rows = networks
        .iter()
        .map(|network| row(network, shorten))
        .collect();
    LISTING.print(app.printer, &template, rows)?;
    Ok(0)
}

fn row(network: &Network, shorten: bool) -> Row {
    let truth = |value: bool| text(if value { "true" } else { "false" });
    Row::from([
        ("ID", id(&network.id, shorten)),
        ("Name", text(network.name.as_str())),
        ("Driver", text(network.driver.as_str())),
        ("Scope", text(network.scope.as_str())),
        ("IPv4", truth(network.enable_ipv4)),
        ("IPv6", truth(network.enable_ipv6)),
        ("Internal", truth(network.internal)),
        ("Labels", text(labels(&network.labels))),
        ("Label", label(network.labels.clone())),
        ("CreatedAt", text(go_time(&network.created))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_as_docker_printed_them() {
        let network = Network {
            id: "57e26456ea8afea7445ecbe47592f6216459a9322a578edcd3ad922b26a92619".into(),
            name: "n1".into(),
            created: "2026-11-21T04:56:17.4016591Z".into(),
            driver: "bridge".into(),
            scope: "local".into(),
            labels: [("my-key".to_owned(), "v".to_owned())].into(),
            ..Network::default()
        };
        let text = |format: &str| {
            LISTING
                .render(&LISTING.template(format, false), vec![row(&network, true)])
                .unwrap()
        };
        assert_eq!(
            text(""),
            "NETWORK ID     NAME      DRIVER    SCOPE\n57e26456ea8a   n1        bridge    local\n"
        );
        assert_eq!(
            text("json"),
            "{\"CreatedAt\":\"2026-11-21 04:56:17.4016591 +0000 UTC\",\"Driver\":\"bridge\",\"ID\":\"57e26456ea8a\",\
             \"IPv4\":\"false\",\"IPv6\":\"false\",\"Internal\":\"false\",\"Labels\":\"my-key=v\",\"Name\":\"n1\",\
             \"Scope\":\"local\"}\n"
        );
        assert_eq!(
            text("table {{.Name}}\\t{{.Label \"my-key\"}}"),
            "NAME      my key\nn1        v\n"
        );
    }
}
