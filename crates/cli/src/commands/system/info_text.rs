//! The text of `system info`, in Docker's layout.

use std::fmt::Write as _;

use cais_types::api::SystemInfo;
use cais_types::human::bytes_size;

/// What stands below `Server:`.
pub(super) fn text(info: &SystemInfo) -> String {
    let mut text = String::new();
    counts(&mut text, info);
    plugins(&mut text, info);
    runtimes(&mut text, info);
    host(&mut text, info);
    settings(&mut text, info);
    text
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, " {name}: {value}");
}

/// A line that is left out when there is nothing to say.
fn line_if(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        line(text, name, value);
    }
}

fn counts(text: &mut String, info: &SystemInfo) {
    line(text, "Containers", info.containers);
    line(text, " Running", info.containers_running);
    line(text, " Paused", info.containers_paused);
    line(text, " Stopped", info.containers_stopped);
    line(text, "Images", info.images);
    line_if(text, "Server Version", &info.server_version);
    line_if(text, "Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        line(text, &format!(" {name}"), value);
    }
    line_if(text, "Logging Driver", &info.logging_driver);
    line_if(text, "Cgroup Driver", &info.cgroup_driver);
    line_if(text, "Cgroup Version", &info.cgroup_version);
}

fn plugins(text: &mut String, info: &SystemInfo) {
    let plugins = &info.plugins;
    text.push_str(" Plugins:\n");
    line(text, " Volume", plugins.volume.join(" "));
    line(text, " Network", plugins.network.join(" "));
    if let Some(authorization) = plugins
        .authorization
        .as_ref()
        .filter(|list| !list.is_empty())
    {
        line(text, " Authorization", authorization.join(" "));
    }
    line(text, " Log", plugins.log.join(" "));
    if !info.cdi_spec_dirs.is_empty() {
        text.push_str(" CDI spec directories:\n");
        for directory in &info.cdi_spec_dirs {
            let _ = writeln!(text, "  {directory}");
        }
    }
    line(text, "Swarm", &info.swarm.local_node_state);
}

fn runtimes(text: &mut String, info: &SystemInfo) {
    if info.os_type == "linux" {
        if !info.runtimes.is_empty() {
            // Docker walks a map here, in any order.
            let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
            line(text, "Runtimes", names.join(" "));
        }
        line(text, "Default Runtime", &info.default_runtime);
        line(text, "Init Binary", &info.init_binary);
        line(text, "containerd version", &info.containerd_commit.id);
        line(text, "runc version", &info.runc_commit.id);
        line(text, "init version", &info.init_commit.id);
    }
    if info.security_options.is_empty() {
        return;
    }
    text.push_str(" Security Options:\n");
    for option in &info.security_options {
        for (number, pair) in option.split(',').enumerate() {
            let (key, value) = pair.split_once('=').unwrap_or(("name", pair));
            match (key, number) {
                ("name", _) => {
                    let _ = writeln!(text, "  {value}");
                }
                ("profile", _) => {
                    let _ = writeln!(text, "   Profile: {value}");
                }
                (key, _) => {
                    let _ = writeln!(text, "   {key}: {value}");
                }
            }
        }
    }
}

fn host(text: &mut String, info: &SystemInfo) {
    line_if(text, "Isolation", &info.isolation);
    line_if(text, "Kernel Version", &info.kernel_version);
    line_if(text, "Operating System", &info.operating_system);
    line_if(text, "OSType", &info.os_type);
    line_if(text, "Architecture", &info.architecture);
    line(text, "CPUs", info.n_cpu);
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    line(text, "Total Memory", bytes_size(info.mem_total as f64));
    line_if(text, "Name", &info.name);
    line_if(text, "ID", &info.id);
    line(text, "Docker Root Dir", &info.docker_root_dir);
    line(text, "Debug Mode", info.debug);
    if info.debug {
        line(text, " File Descriptors", info.n_fd);
        line(text, " Goroutines", info.n_goroutines);
        line(text, " System Time", &info.system_time);
        line(text, " EventsListeners", info.n_events_listener);
    }
    line_if(text, "HTTP Proxy", &info.http_proxy);
    line_if(text, "HTTPS Proxy", &info.https_proxy);
    line_if(text, "No Proxy", &info.no_proxy);
}

fn settings(text: &mut String, info: &SystemInfo) {
    if !info.labels.is_empty() {
        text.push_str(" Labels:\n");
        for label in &info.labels {
            let _ = writeln!(text, "  {label}");
        }
    }
    line(text, "Experimental", info.experimental_build);
    let registry = &info.registry_config;
    let insecure: Vec<&String> = registry
        .index_configs
        .iter()
        .filter(|(_, index)| !index.secure)
        .map(|(name, _)| name)
        .chain(&registry.insecure_registry_cidrs)
        .collect();
    if !insecure.is_empty() {
        text.push_str(" Insecure Registries:\n");
        for name in insecure {
            let _ = writeln!(text, "  {name}");
        }
    }
    if let Some(mirrors) = registry.mirrors.as_ref().filter(|list| !list.is_empty()) {
        text.push_str(" Registry Mirrors:\n");
        for mirror in mirrors {
            let _ = writeln!(text, "  {mirror}");
        }
    }
    line(text, "Live Restore Enabled", info.live_restore_enabled);
    line_if(text, "Product License", &info.product_license);
    if !info.default_address_pools.is_empty() {
        text.push_str(" Default Address Pools:\n");
        for pool in &info.default_address_pools {
            let _ = writeln!(text, "   Base: {}, Size: {}", pool.base, pool.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_laid_out_as_docker_does() {
        let info = SystemInfo {
            containers: 2,
            containers_running: 1,
            containers_stopped: 1,
            images: 2,
            server_version: "20.10.24+dfsg1".into(),
            driver: "overlay2".into(),
            driver_status: vec![["Backing Filesystem".into(), "extfs".into()]],
            os_type: "linux".into(),
            security_options: vec!["name=seccomp,profile=default".into()],
            mem_total: 25_276_502_016,
            ..SystemInfo::default()
        };
        let text = text(&info);
        assert!(
            text.starts_with(
                " Containers: 2\n  Running: 1\n  Paused: 0\n  Stopped: 1\n Images: 2\n Server Version: 20.10.24+dfsg1\n\
                 \x20Storage Driver: overlay2\n  Backing Filesystem: extfs\n Plugins:\n  Volume: \n"
            ),
            "{text}"
        );
        assert!(
            text.contains(" init version: \n Security Options:\n  seccomp\n   Profile: default\n OSType: linux\n CPUs: 0\n Total Memory: 23.54GiB\n"),
            "{text}"
        );
    }
}
