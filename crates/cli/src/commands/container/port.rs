//! `container port`: list published ports, or where one of them is published.

use cais_types::api::PortBinding;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::CliError;
use crate::error::Result;

/// The verb.
pub const COMMAND: Command = Command {
    name: "port",
    other_names: &[],
    top: Some("port"),
    about: "List published ports, or where one of them is published",
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    aliases: &["container port", "port"],
    arguments: Arguments::Between(1, 2),
    flags: &[],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

async fn run(app: &App, call: Invocation) -> Result {
    let name = &call.args.positionals[0];
    let ports = app
        .client()?
        .container_inspect(name, false)
        .await?
        .decode()?
        .network_settings
        .ports;
    let place = |binding: &PortBinding| {
        if binding.host_ip.contains(':') {
            format!("[{}]:{}", binding.host_ip, binding.host_port)
        } else {
            format!("{}:{}", binding.host_ip, binding.host_port)
        }
    };
    if let Some(wanted) = call.args.positionals.get(1) {
        let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        if port.parse::<u16>().is_err() {
            let cause = format!("strconv.ParseUint: parsing {port:?}: invalid syntax");
            return Err(CliError::new(format!(
                "Error: invalid port ({port}): {cause}"
            )));
        }
        let key = format!("{port}/{protocol}");
        let Some(bindings) = ports
            .get(&key)
            .and_then(Option::as_ref)
            .filter(|list| !list.is_empty())
        else {
            return Err(CliError::new(format!(
                "Error: No public port '{wanted}' published for {name}"
            )));
        };
        for binding in bindings {
            app.printer.line(&place(binding));
        }
        return Ok(0);
    }
    let mut rows: Vec<(u16, String)> = Vec::new();
    for (port, bindings) in &ports {
        let number = port
            .split('/')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        for binding in bindings.iter().flatten() {
            rows.push((number, format!("{port} -> {}", place(binding))));
        }
    }
    rows.sort_by_key(|(number, _)| *number);
    for (_, row) in rows {
        app.printer.line(&row);
    }
    Ok(0)
}
