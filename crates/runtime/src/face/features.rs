//! `features`: what this runtime can do, as a document (features.md).

use serde_json::json;

use super::arguments::{Arguments, Order};
use super::{Result, print_json};
use crate::capabilities::Capabilities;
use crate::container::{apparmor_enabled, mount_options, selinux_enabled};
use crate::seccomp::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

pub fn main(words: &[String]) -> Result<i32> {
    Arguments::parse(&[], Order::Any, words)?;
    let hooks = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let namespaces = [
        "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
    ];
    let capabilities = Capabilities::ALL.to_names();
    print_json(
        &json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": crate::spec::VERSION,
            "hooks": hooks,
            "mountOptions": mount_options(),
            "linux": {
                "namespaces": namespaces,
                "capabilities": capabilities,
                "cgroup": {
                    "v1": true,
                    "v2": true,
                    "systemd": false,
                    "systemdUser": false,
                    "rdma": true,
                },
                "seccomp": {
                    "enabled": true,
                    "actions": ACTIONS,
                    "operators": OPERATORS,
                    "archs": ARCHITECTURES,
                    "knownFlags": FLAGS,
                    "supportedFlags": FLAGS,
                },
                "apparmor": {"enabled": apparmor_enabled()},
                "selinux": {"enabled": selinux_enabled()},
                "intelRdt": {"enabled": false},
                "mountExtensions": {"idmap": {"enabled": true}},
                "netDevices": {"enabled": false},
            },
        }),
        true,
    )?;
    Ok(0)
}
