//! The flags `run` and `create` share.

use super::{config, device, env, host, limit, mount, network};
use cais_console::flags::{Flag, flag, switch};

/// Flags of a new container, beside [`LIMIT_FLAGS`].
pub const CONTAINER_FLAGS: &[Flag] = &[
    flag(
        "add-host",
        "list",
        "Add a line to the container's hosts file (host:ip)",
    )
    .check(host::check_extra_host),
    flag("annotation", "map", "Add an annotation for the OCI runtime").default("map[]"),
    flag("attach", "list", "Attach to STDIN, STDOUT or STDERR")
        .short('a')
        .check(config::check_attach),
    flag(
        "blkio-weight-device",
        "list",
        "Relative block IO weight of one device",
    )
    .default("[]")
    .check(limit::check_weight),
    flag("cap-add", "list", "Add Linux capabilities"),
    flag("cap-drop", "list", "Drop Linux capabilities"),
    flag("cgroup-parent", "string", "Parent cgroup of the container"),
    flag(
        "cgroupns",
        "string",
        "Cgroup namespace to use (host|private); the daemon's default otherwise",
    ),
    flag("cidfile", "string", "Write the container ID to a file"),
    flag("cpu-count", "int", "CPU count (Windows only)"),
    flag("cpu-percent", "int", "CPU percent (Windows only)"),
    flag("device", "list", "Add a host device"),
    flag(
        "device-cgroup-rule",
        "list",
        "Add a rule to the allowed devices",
    )
    .check(limit::check_cgroup_rule),
    flag(
        "device-read-bps",
        "list",
        "Limit bytes read per second from a device",
    )
    .default("[]")
    .check(limit::check_byte_rate),
    flag(
        "device-read-iops",
        "list",
        "Limit reads per second from a device",
    )
    .default("[]")
    .check(limit::check_operation_rate),
    flag(
        "device-write-bps",
        "list",
        "Limit bytes written per second to a device",
    )
    .default("[]")
    .check(limit::check_byte_rate),
    flag(
        "device-write-iops",
        "list",
        "Limit writes per second to a device",
    )
    .default("[]")
    .check(limit::check_operation_rate),
    switch("disable-content-trust", "Skip image verification").default("true"),
    flag("dns", "list", "Set DNS servers").check(host::check_address),
    flag("dns-opt", "list", "Set DNS options")
        .hidden()
        .same_as("dns-option"),
    flag("dns-option", "list", "Set DNS options"),
    flag("dns-search", "list", "Set DNS search domains"),
    flag("domainname", "string", "NIS domain name of the container"),
    flag("entrypoint", "string", "Replace the image's ENTRYPOINT"),
    flag("env", "list", "Set environment variables")
        .short('e')
        .check(env::check),
    flag("env-file", "list", "Read environment variables from a file"),
    flag("expose", "list", "Expose a port or a range of ports"),
    flag("gpus", "gpu-request", "GPUs to add ('all' for every one)").check(device::check_gpus),
    flag("group-add", "list", "Join more groups"),
    flag("health-cmd", "string", "Command that checks health"),
    flag(
        "health-interval",
        "duration",
        "Time between checks (ms|s|m|h)",
    )
    .default("0s"),
    flag(
        "health-retries",
        "int",
        "Failures in a row that make it unhealthy",
    ),
    flag(
        "health-start-interval",
        "duration",
        "Time between checks during the start period (ms|s|m|h)",
    )
    .default("0s"),
    flag(
        "health-start-period",
        "duration",
        "Time to start up before failures count (ms|s|m|h)",
    )
    .default("0s"),
    flag(
        "health-timeout",
        "duration",
        "Longest time a check may take (ms|s|m|h)",
    )
    .default("0s"),
    flag("hostname", "string", "Host name of the container").short('h'),
    switch(
        "init",
        "Run an init that forwards signals and reaps processes",
    ),
    switch("interactive", "Keep STDIN open even if not attached").short('i'),
    flag(
        "io-maxbandwidth",
        "bytes",
        "IO bandwidth of the system drive (Windows only)",
    ),
    flag(
        "io-maxiops",
        "uint",
        "IOPS of the system drive (Windows only)",
    ),
    flag("ip", "string", "IPv4 address (172.30.100.104)"),
    flag("ip6", "string", "IPv6 address (2001:db8::33)"),
    flag("ipc", "string", "IPC mode to use"),
    flag(
        "isolation",
        "string",
        "Isolation technology of the container",
    ),
    flag("kernel-memory", "bytes", "Kernel memory limit"),
    flag("label", "list", "Set labels")
        .short('l')
        .check(env::check_label),
    flag("label-file", "list", "Read labels from a file"),
    flag("link", "list", "Link to another container").check(host::check_link),
    flag(
        "link-local-ip",
        "list",
        "Link-local addresses of the container",
    ),
    flag("log-driver", "string", "Log driver of the container"),
    flag("log-opt", "list", "Options of the log driver"),
    flag("mac-address", "string", "MAC address (92:d0:c6:0a:29:33)"),
    flag(
        "memory-swappiness",
        "int",
        "How readily memory is swapped (0 to 100)",
    )
    .default("-1"),
    flag("mount", "mount", "Attach a filesystem mount").check(mount::check),
    flag("name", "string", "Name of the container"),
    flag("net", "network", "Connect to a network")
        .hidden()
        .same_as("network")
        .check(network::check),
    flag("net-alias", "list", "Add an alias on the network")
        .hidden()
        .same_as("network-alias"),
    flag("network", "network", "Connect to a network").check(network::check),
    flag("network-alias", "list", "Add an alias on the network"),
    switch("no-healthcheck", "Disable the image's HEALTHCHECK"),
    switch("oom-kill-disable", "Disable the OOM killer"),
    flag(
        "oom-score-adj",
        "int",
        "Tune the host's OOM preference (-1000 to 1000)",
    ),
    flag("pid", "string", "PID namespace to use"),
    flag("platform", "string", "Platform of the image"),
    switch("privileged", "Give all privileges to this container"),
    flag("publish", "list", "Publish ports to the host").short('p'),
    switch("publish-all", "Publish all exposed ports to random ports").short('P'),
    flag(
        "pull",
        "string",
        "Pull the image before (\"always\", \"missing\", \"never\")",
    )
    .default("\"missing\""),
    switch("quiet", "Suppress the output of pulling").short('q'),
    switch("read-only", "Mount the root filesystem read-only"),
    flag(
        "restart",
        "string",
        "Restart policy after the container exits",
    )
    .default("\"no\""),
    switch(
        "rm",
        "Remove the container and its anonymous volumes when it exits",
    ),
    flag("runtime", "string", "Runtime to use for this container"),
    flag("security-opt", "list", "Security options"),
    flag("shm-size", "bytes", "Size of /dev/shm"),
    flag("stop-signal", "string", "Signal that stops the container"),
    flag(
        "stop-timeout",
        "int",
        "Time (in seconds) until it is killed after the stop signal",
    ),
    flag("storage-opt", "list", "Storage driver options"),
    flag("sysctl", "map", "Sysctl options")
        .default("map[]")
        .check(host::check_sysctl),
    flag("tmpfs", "list", "Mount a tmpfs directory"),
    switch("tty", "Allocate a pseudo-TTY").short('t'),
    flag("ulimit", "ulimit", "Ulimit options")
        .default("[]")
        .check(limit::check_ulimit),
    switch(
        "use-api-socket",
        "Give the container the API socket and the registry credentials",
    ),
    flag(
        "user",
        "string",
        "User name or UID (<name|uid>[:<group|gid>])",
    )
    .short('u'),
    flag("userns", "string", "User namespace to use"),
    flag("uts", "string", "UTS namespace to use"),
    flag("volume", "list", "Bind mount a path or mount a volume").short('v'),
    flag("volume-driver", "string", "Volume driver of the container"),
    flag(
        "volumes-from",
        "list",
        "Mount the volumes of other containers",
    ),
    flag(
        "workdir",
        "string",
        "Working directory inside the container",
    )
    .short('w'),
];

/// The limits that `update` can change as well.
pub const LIMIT_FLAGS: &[Flag] = &[
    flag(
        "blkio-weight",
        "uint16",
        "Relative block IO weight, 10 to 1000, or 0 to disable",
    )
    .default("0"),
    flag(
        "cpu-period",
        "int",
        "Period of the CPU quota in microseconds",
    ),
    flag("cpu-quota", "int", "CPU time per period in microseconds"),
    flag(
        "cpu-rt-period",
        "int",
        "Period of real-time CPU in microseconds",
    ),
    flag(
        "cpu-rt-runtime",
        "int",
        "Real-time CPU per period in microseconds",
    ),
    flag("cpu-shares", "int", "Relative CPU weight").short('c'),
    flag("cpus", "decimal", "Number of CPUs").check(limit::check_cpus),
    flag("cpuset-cpus", "string", "CPUs to run on (0-3, 0,1)"),
    flag("cpuset-mems", "string", "Memory nodes to use (0-3, 0,1)"),
    flag("memory", "bytes", "Memory limit").short('m'),
    flag("memory-reservation", "bytes", "Soft memory limit"),
    flag(
        "memory-swap",
        "bytes",
        "Limit of memory and swap together, -1 for unlimited swap",
    ),
    flag(
        "pids-limit",
        "int",
        "Limit the number of processes (-1 for unlimited)",
    ),
];
