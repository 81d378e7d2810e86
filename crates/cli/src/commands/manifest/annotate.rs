//! `manifest annotate`: say what platform a manifest of a list is for.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use cais_manifests::{ManifestStore, reference};

/// The verb.
pub const COMMAND: Command = Command {
    name: "annotate",
    other_names: &[],
    top: None,
    about: "Say what platform a manifest of a local list is for",
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    aliases: &[],
    arguments: Arguments::Exact(2),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("arch", "string", "Architecture"),
    flag("os", "string", "Operating system"),
    flag("os-features", "strings", "Features of the operating system"),
    flag("os-version", "string", "Version of the operating system"),
    flag("variant", "string", "Variant of the architecture"),
];

/// Operating systems, and the architectures each runs on (Go's list of ports).
const PORTS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let (list_name, name) = (&args.positionals[0], &args.positionals[1]);
    let named = |what: &str, text: &str| {
        reference(text).map_err(|error| {
            CliError::new(format!(
                "annotate: error parsing name for {what} {text}: {}",
                error.message
            ))
        })
    };
    let list = named("manifest list", list_name)?;
    let manifest = named("manifest", name)?;
    let store = ManifestStore::new(app.config_dir());
    let Some(mut entry) = store.get(&list, &manifest)? else {
        return Err(CliError::new(format!(
            "manifest for image {name} does not exist in {list_name}"
        )));
    };
    let given = |flag: &str| Some(args.string(flag)).filter(|text| !text.is_empty());
    let (os, arch) = (given("os"), given("arch"));
    let platform = entry.platform_mut();
    if let Some(os) = os.clone() {
        platform.os = os;
    }
    if let Some(arch) = arch.clone() {
        platform.architecture = arch;
    }
    for feature in args.list("os-features") {
        let features = platform.os_features.get_or_insert_default();
        for feature in feature.split(',') {
            if !features.iter().any(|known| known == feature) {
                features.push(feature.to_owned());
            }
        }
    }
    platform.variant = given("variant").or(platform.variant.take());
    platform.os_version = given("os-version").or(platform.os_version.take());
    if !is_port(&platform.os, &platform.architecture) {
        return Err(CliError::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            os.unwrap_or_default(),
            arch.unwrap_or_default()
        )));
    }
    store.save(&list, &manifest, &entry)?;
    Ok(0)
}

fn is_port(os: &str, architecture: &str) -> bool {
    PORTS
        .iter()
        .any(|(known, on)| *known == os && on.contains(&architecture))
}
