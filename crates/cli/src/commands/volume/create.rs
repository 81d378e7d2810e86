//! `volume create`: make a volume.

use cais_types::api::VolumeCreateRequest;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::pairs;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use cais_options::env::check_label;

/// The verb.
pub const COMMAND: Command = Command {
    name: "create",
    other_names: &[],
    top: None,
    about: "Make a volume",
    usage: "[OPTIONS] [VOLUME]",
    aliases: &[],
    arguments: Arguments::AtMost(1),
    flags: &[FLAGS, CLUSTER],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("driver", "string", "Name of the volume driver")
        .short('d')
        .default("\"local\""),
    flag("label", "list", "Label of the volume").check(check_label),
    flag("name", "string", "Name of the volume").hidden(),
    flag("opt", "map", "Option of the driver")
        .short('o')
        .default("map[]"),
];

/// Flags of cluster volumes, which only a swarm has.
const CLUSTER: &[Flag] = &[
    flag("availability", "string", "Availability in the cluster").hidden(),
    flag("group", "string", "Group in the cluster").hidden(),
    flag("limit-bytes", "bytes", "Largest size in the cluster").hidden(),
    flag("required-bytes", "bytes", "Smallest size in the cluster").hidden(),
    flag("scope", "string", "Access in the cluster").hidden(),
    flag("secret", "map", "Secrets in the cluster").hidden(),
    flag("sharing", "string", "Sharing in the cluster").hidden(),
    flag("topology-preferred", "list", "Wanted place in the cluster").hidden(),
    flag("topology-required", "list", "Needed place in the cluster").hidden(),
    flag("type", "string", "Access type in the cluster").hidden(),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    if let Some(flag) = CLUSTER.iter().find(|flag| args.changed(flag.long)) {
        return Err(CliError::new(format!(
            "--{}: cluster volumes are not built yet",
            flag.long
        )));
    }
    let name = match args.positionals.first() {
        Some(_) if args.changed("name") => {
            return Err(CliError::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        Some(name) => name.clone(),
        None => args.string("name"),
    };
    let request = VolumeCreateRequest {
        driver: args.value("driver").unwrap_or("local").to_owned(),
        driver_opts: pairs::map(&args.list("opt")),
        labels: Some(pairs::map(&args.list("label"))),
        name,
        ..VolumeCreateRequest::default()
    };
    let volume = app.client()?.volume_create(&request).await?;
    app.printer.line(&volume.name);
    Ok(0)
}
