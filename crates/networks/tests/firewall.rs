//! Rule sets as text, and the same rule sets as `nft` sees them in the kernel.

use cais_networks::netlink::Socket;
use cais_networks::nft::{self, Family};
use cais_networks::{EndpointRequest, NetworkRequest, PoolRequest, Store};

use crate::host::{container, on_host, output, request, without_bridge_netfilter};

/// Words without what differs between our listing and that of `nft`: names of priorities, counters, the order of elements
/// and that of chains.
pub fn normal(text: &str) -> String {
    let text = text
        .replace("priority raw", "priority -300")
        .replace("priority dstnat", "priority -100")
        .replace("priority srcnat", "priority 100")
        .replace("priority filter", "priority 0")
        .replace("counter packets 0 bytes 0", "counter");
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let mut parts = text.split("elements = { ");
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (elements, rest) = part.split_once(" }").unwrap();
        let mut elements: Vec<String> = elements.split(", ").map(named_protocol).collect();
        elements.sort_unstable();
        normal.push_str(&format!(
            "\nelements = {{ {} }}\n{rest}",
            elements.join(", ")
        ));
    }
    let mut chains = normal.split(" chain ");
    let sets = chains.next().unwrap_or_default().to_owned();
    let mut chains: Vec<&str> = chains
        .map(|chain| chain.trim_end_matches([' ', '}']))
        .collect();
    chains.sort_unstable();
    [&[sets.as_str()], &chains[..]].concat().join(" chain ")
}

/// An element with the name of its protocol: where no `/etc/protocols` is, nft prints the number.
fn named_protocol(element: &str) -> String {
    let word = |word: &str| match word {
        "6" => "tcp".to_owned(),
        "17" => "udp".to_owned(),
        "132" => "sctp".to_owned(),
        other => other.to_owned(),
    };
    // What is looked up has the port last; what is found there has no protocol.
    let (key, value) = element.split_once(" : ").unwrap_or((element, ""));
    let mut parts: Vec<String> = key.split(" . ").map(str::to_owned).collect();
    if let [.., protocol, _] = &mut parts[..] {
        *protocol = word(protocol);
    }
    format!("{} : {value}", parts.join(" . "))
}

#[test]
fn the_kernel_has_the_rules_that_the_store_prints() {
    on_host(|host| {
        let store = host.store();
        let ports = [("80/tcp", "127.0.0.1", "8080"), ("53/udp", "", "5300")];
        let _sandbox = store.open(&request(1, &ports)).unwrap();
        let listed = output("nft", &["list", "table", "ip", "cais-test"]);
        let printed = store.rule_sets()[0].to_string();
        assert_eq!(
            normal(&printed),
            normal(&listed),
            "printed:\n{printed}\nlisted:\n{listed}"
        );
    });
}

/// What `nft` lists of our tables is what we print; answers the latter.
pub fn agreed(store: &Store) -> String {
    let mut all = String::new();
    for rules in store.rule_sets() {
        let family = rules.family.to_string();
        let listed = output("nft", &["list", "table", &family, "cais-test"]);
        let printed = rules.to_string();
        assert_eq!(
            normal(&printed),
            normal(&listed),
            "printed:\n{printed}\nlisted:\n{listed}"
        );
        all.push_str(&printed);
    }
    all
}

/// Compares with a file of `tests/rules`; `UPDATE_RULES=1` writes it instead.
pub fn snapshot(name: &str, rules: &str) {
    let path = format!("{}/tests/rules/{name}.nft", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_RULES").is_some() {
        std::fs::write(&path, rules).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(rules, known, "{path}");
}

fn network(store: &Store, name: &str, subnets: &[&str], options: &[(&str, &str)], internal: bool) {
    let pools = subnets.iter().map(|subnet| PoolRequest {
        subnet: (*subnet).to_owned(),
        ..PoolRequest::default()
    });
    let option = |(key, value): &(&str, &str)| {
        (
            format!("com.docker.network.bridge.{key}"),
            (*value).to_owned(),
        )
    };
    let mut options: std::collections::BTreeMap<_, _> = options.iter().map(option).collect();
    options.insert("com.docker.network.bridge.name".to_owned(), name.to_owned());
    store
        .create_network(&NetworkRequest {
            name: name.to_owned(),
            pools: pools.collect(),
            ipv6: Some(subnets.len() > 1),
            options,
            internal,
            ..NetworkRequest::default()
        })
        .unwrap();
}

fn on(network: &str, number: u8, ports: &[(&str, &str, &str)]) -> cais_networks::SandboxRequest {
    let mut wanted = request(number, ports);
    wanted.endpoints = [(network.to_owned(), EndpointRequest::default())].into();
    wanted
}

#[test]
fn the_default_rules_read_as_documented() {
    on_host(|host| snapshot("default", &agreed(&host.store())));
}

#[test]
fn ports_on_both_families_are_elements_of_maps() {
    on_host(|host| {
        without_bridge_netfilter();
        let store = host.store();
        network(&store, "dual", &["10.9.0.0/24", "fd09::/64"], &[], false);
        let ports = [
            ("80/tcp", "", "8080"),
            ("81/tcp", "127.0.0.1", "8081"),
            ("82/tcp", "::1", "8082"),
            ("53/udp", "::", "53"),
            ("9/sctp", "0.0.0.0", "9"),
        ];
        let _sandbox = store.open(&on("dual", 1, &ports)).unwrap();
        snapshot("ports", &agreed(&store));
        store.close(&container(1)).unwrap();
        store.settle();
        assert!(!agreed(&store).contains("8080"));
    });
}

#[test]
fn the_modes_of_gateways_have_their_own_entries() {
    on_host(|host| {
        without_bridge_netfilter();
        let store = host.store();
        let subnets = ["10.9.1.0/24", "fd09:1::/64"];
        let mode = [
            ("gateway_mode_ipv4", "routed"),
            ("gateway_mode_ipv6", "routed"),
        ];
        network(&store, "routed", &subnets, &mode, false);
        let mode = [("gateway_mode_ipv4", "nat-unprotected")];
        network(&store, "open", &["10.9.2.0/24"], &mode, false);
        let trusted = [("trusted_host_interfaces", "wire0:wire1")];
        network(&store, "trusting", &["10.9.6.0/24"], &trusted, false);
        let _trusting = store
            .open(&on("trusting", 3, &[("80/tcp", "", "8081")]))
            .unwrap();
        let mode = [("gateway_mode_ipv4", "isolated")];
        network(&store, "isolated", &["10.9.3.0/24"], &mode, true);
        network(
            &store,
            "inner",
            &["10.9.4.0/24"],
            &[("enable_icc", "false")],
            true,
        );
        network(
            &store,
            "silent",
            &["10.9.5.0/24"],
            &[("enable_icc", "false"), ("enable_ip_masquerade", "false")],
            false,
        );
        let sandbox = store
            .open(&on("routed", 1, &[("80/tcp", "", "8080")]))
            .unwrap();
        assert_eq!(sandbox.ports["80/tcp"][0].host_port, "");
        assert_eq!(sandbox.ports["80/tcp"].len(), 2);
        let inner = store
            .open(&on("inner", 2, &[("80/tcp", "", "8080")]))
            .unwrap();
        assert!(inner.ports.is_empty(), "internal networks publish nothing");
        snapshot("modes", &agreed(&store));
    });
}

#[test]
fn other_tables_stay_and_their_drops_are_told() {
    on_host(|host| {
        output(
            "nft",
            &[
                "add table ip other; add chain ip other FORWARD { type filter hook forward priority 0; policy drop; }",
            ],
        );
        let before = output("nft", &["list", "table", "ip", "other"]);
        let store = host.store();
        assert_eq!(store.warnings(), ["other FORWARD"]);
        store.destroy().unwrap();
        assert_eq!(output("nft", &["list", "ruleset"]), before);
        let socket = Socket::netfilter().unwrap();
        assert!(!nft::has_table(&socket, Family::Ip, "cais-test").unwrap());
        assert!(nft::has_table(&socket, Family::Ip, "other").unwrap());
    });
}
