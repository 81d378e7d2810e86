//! Rule sets as text, and the same rule sets as `nft` sees them in the kernel.

use cais_networks::netlink::Socket;
use cais_networks::nft::{self, Family};

use crate::host::{on_host, output, request};

/// What differs between our listing and that of `nft`: names of priorities, counters.
pub fn normal(text: &str) -> Vec<String> {
    let text = text
        .replace("priority raw", "priority -300")
        .replace("priority dstnat", "priority -100")
        .replace("priority srcnat", "priority 100")
        .replace("priority filter", "priority 0")
        .replace("counter packets 0 bytes 0", "counter");
    let words = text.split_whitespace().map(str::to_owned);
    words.collect()
}

#[test]
fn the_kernel_has_the_rules_that_the_store_prints() {
    on_host(|host| {
        let store = host.store();
        let ports = [("80/tcp", "127.0.0.1", "8080"), ("53/udp", "", "5300")];
        let _sandbox = store.open(&request(1, &ports)).unwrap();
        let listed = output("nft", &["list", "table", "ip", "cais-test"]);
        let printed = store.rule_set().to_string();
        assert_eq!(
            normal(&printed),
            normal(&listed),
            "printed:\n{printed}\nlisted:\n{listed}"
        );
    });
}

#[test]
fn the_default_rules_read_as_documented() {
    on_host(|host| {
        let store = host.store();
        assert_eq!(
            store.rule_set().to_string(),
            include_str!("default_rules.txt")
        );
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
