//! The flags of a build as parameters of its request.

use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::flags::Parsed;

/// The variable that says when what is made was made.
const SOURCE_DATE: &str = "SOURCE_DATE_EPOCH";

/// Flags and the parameters that they are: switches, texts, and sizes in bytes.
const SWITCHES: [(&str, &str); 5] = [
    ("quiet", "q"),
    ("no-cache", "nocache"),
    ("pull", "pull"),
    ("squash", "squash"),
    ("force-rm", "forcerm"),
];
const TEXTS: [(&str, &str); 9] = [
    ("target", "target"),
    ("network", "networkmode"),
    ("cgroup-parent", "cgroupparent"),
    ("isolation", "isolation"),
    ("cpuset-cpus", "cpusetcpus"),
    ("cpuset-mems", "cpusetmems"),
    ("cpu-period", "cpuperiod"),
    ("cpu-quota", "cpuquota"),
    ("cpu-shares", "cpushares"),
];
const SIZES: [(&str, &str); 3] = [
    ("memory", "memory"),
    ("memory-swap", "memswap"),
    ("shm-size", "shmsize"),
];

/// The parameters of the request.
///
/// # Errors
/// Values that make no sense.
pub fn of_flags(args: &Parsed, names: &[String]) -> Result<Vec<(String, String)>> {
    let mut query: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| query.push((name.to_owned(), value));
    for name in names {
        add("t", name.clone());
    }
    for host in args.list("add-host") {
        let host = host.replacen('=', ":", usize::from(!host.contains(':')));
        add("extrahosts", host);
    }
    for (_, name) in SWITCHES.iter().filter(|(flag, _)| args.switch(flag)) {
        add(name, "1".to_owned());
    }
    let rm = if args.switch_or("rm", true) { "1" } else { "0" };
    add("rm", rm.to_owned());
    for stage in no_cache_filter(args)? {
        add("nocachefilter", stage);
    }
    for (flag, name) in TEXTS {
        if let Some(value) = args.value(flag).filter(|value| !value.is_empty()) {
            add(name, value.to_owned());
        }
    }
    for (flag, name) in SIZES.iter().filter(|(flag, _)| args.changed(flag)) {
        add(name, args.bytes(flag).to_string());
    }
    let platforms = args.list("platform");
    if !platforms.is_empty() {
        add("platform", platforms.join(","));
    }
    add("buildargs", Value::Object(build_args(args)).to_string());
    add("labels", Value::Object(labels(args)).to_string());
    for option in args.list("security-opt") {
        add("securityopt", option);
    }
    let limits = args.list("ulimit");
    if !limits.is_empty() {
        let limits: Vec<Value> = limits
            .iter()
            .map(|text| ulimit(text))
            .collect::<Result<_>>()?;
        add("ulimits", Value::Array(limits).to_string());
    }
    Ok(query)
}

/// The stages to run anew.
fn no_cache_filter(args: &Parsed) -> Result<Vec<String>> {
    let lists = args.list("no-cache-filter");
    let stages: Vec<String> = lists
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::to_owned)
        .collect();
    if !stages.is_empty() && args.switch("no-cache") {
        return Err(CliError::new(
            "--no-cache and --no-cache-filter cannot currently be used together",
        ));
    }
    Ok(stages)
}

/// `NAME=value`; a name alone takes its value from our environment, or stays without one. The time of what is made is
/// taken from there in any case.
pub fn build_args(args: &Parsed) -> Map<String, Value> {
    let arg = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), json!(value)),
        None => {
            let value = std::env::var(&text).ok();
            (text, json!(value))
        }
    };
    let mut given: Map<String, Value> = args.list("build-arg").into_iter().map(arg).collect();
    if let Ok(time) = std::env::var(SOURCE_DATE) {
        given.entry(SOURCE_DATE).or_insert(json!(time));
    }
    given
}

fn labels(args: &Parsed) -> Map<String, Value> {
    let label = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), json!(value)),
        None => (text, json!("")),
    };
    args.list("label").into_iter().map(label).collect()
}

/// `name=soft[:hard]`.
fn ulimit(text: &str) -> Result<Value> {
    let bad = || CliError::new(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    Ok(json!({ "Name": name, "Soft": number(soft)?, "Hard": number(hard)? }))
}
