//! RUN.

use super::{Request, Takes, suggest};
use crate::dockerfile::instruction::{NetworkMode, Run, Security};
use crate::dockerfile::mount::Mount;

pub(super) fn run(request: &Request<'_>) -> Result<Run, String> {
    let flags = request.flags(&[
        ("mount", Takes::Values),
        ("network", Takes::Value),
        ("security", Takes::Value),
    ])?;
    let mounts = flags.values("mount");
    for mount in &mounts {
        Mount::check(mount)?;
    }
    let network = match flags.value("network") {
        None | Some("default") => NetworkMode::Default,
        Some("none") => NetworkMode::None,
        Some("host") => NetworkMode::Host,
        Some(other) => {
            let hint = suggest::hint(other, ["default", "none", "host"]);
            return Err(format!("invalid network mode {other:?}{hint}"));
        }
    };
    let security = match flags.value("security") {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => {
            let hint = suggest::hint(other, ["sandbox", "insecure"]);
            return Err(format!("security {other:?} is not valid{hint}"));
        }
    };
    Ok(Run {
        command: request.command()?,
        mounts,
        network,
        security,
        flags: flags.names(),
    })
}
