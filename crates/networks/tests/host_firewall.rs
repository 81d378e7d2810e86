//! Published ports behind the host's own input rules.

use cais_networks::{Config, EndpointRequest, NetworkRequest, PublishFirewall, SandboxRequest};

use crate::host::{
    HOST, Host, NEIGHBOUR, eventually, inside, on_host, output, request, serve, serve_udp, talk,
    talk_udp,
};

fn config(host: &Host) -> Config {
    Config {
        publish_firewall: PublishFirewall::Host,
        ..host.config()
    }
}

fn on(network: &str, ports: &[(&str, &str, &str)]) -> SandboxRequest {
    SandboxRequest {
        endpoints: [(network.to_owned(), EndpointRequest::default())].into(),
        ..request(9, ports)
    }
}

fn rule(words: &str) {
    output("nft", &[words]);
}

#[test]
fn moby_22054_the_hosts_input_rules_decide_who_reaches_published_ports() {
    on_host(|host| {
        let store = host.store_with(config(&host));
        let ports = [
            ("80/tcp", "", "8080"),
            ("53/udp", "", "5300"),
            ("80/tcp", "127.0.0.1", "8081"),
        ];
        let web = store.open(&request(1, &ports)).unwrap();
        let other = store.open(&request(2, &[])).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        serve_udp(&web.netns, 53);
        let (tcp, udp) = (format!("{HOST}:8080"), format!("{HOST}:5300"));
        crate::firewall::snapshot("host-firewall", &crate::firewall::agreed(&store));

        let from_neighbour = || inside(&host.neighbour, || (talk(&tcp).ok(), talk_udp(&udp).ok()));
        let seen = Some(NEIGHBOUR.to_owned());
        assert_eq!(
            from_neighbour(),
            (seen.clone(), seen.clone()),
            "no rules, all open"
        );

        rule(
            "add table ip mine; add chain ip mine input { type filter hook input priority 0; policy drop; }",
        );
        rule("add rule ip mine input ct state established,related accept");
        rule("add rule ip mine input iifname lo accept");
        assert_eq!(from_neighbour(), (None, None), "the host lets nothing in");
        assert!(
            inside(&other.netns, || talk(&tcp).is_err()),
            "nor from containers"
        );
        assert_eq!(
            talk("127.0.0.1:8080").unwrap(),
            "10.88.0.1",
            "the host itself"
        );
        assert_eq!(talk("127.0.0.1:8081").unwrap(), "10.88.0.1");

        rule("add rule ip mine input tcp dport 8080 accept");
        assert_eq!(from_neighbour(), (seen.clone(), None), "one port is let in");
        assert_eq!(inside(&other.netns, || talk(&tcp).unwrap()), "10.88.0.1");
        rule(&format!(
            "add rule ip mine input ip saddr {NEIGHBOUR} udp dport 5300 accept"
        ));
        assert_eq!(from_neighbour(), (seen.clone(), seen));
        drop(store);

        let store = host.store();
        assert!(
            !output("ip", &["-o", "link"]).contains("test0-o"),
            "no pair without the wish"
        );
        store
            .retain(&[crate::host::container(1), crate::host::container(2)])
            .unwrap();
    });
}

#[test]
fn the_hosts_input_rules_decide_on_ipv6_too() {
    on_host(|host| {
        output(
            "ip",
            &["addr", "add", "fd00:2::1/64", "dev", "wire0", "nodad"],
        );
        inside(&host.neighbour, || {
            output(
                "ip",
                &["addr", "add", "fd00:2::2/64", "dev", "wire0", "nodad"],
            );
        });
        let store = host.store_with(config(&host));
        store
            .create_network(&NetworkRequest {
                name: "six".to_owned(),
                ipv6: Some(true),
                ..NetworkRequest::default()
            })
            .unwrap();
        let web = store.open(&on("six", &[("80/tcp", "", "8080")])).unwrap();
        serve(&web.netns, "::", 80);
        let fetch = || inside(&host.neighbour, || talk("[fd00:2::1]:8080").ok());
        // A new bridge finds no neighbours before its link-local address has been tried.
        eventually("IPv6 on the new bridge", || {
            fetch() == Some("fd00:2::2".to_owned())
        });
        rule(
            "add table ip6 mine; add chain ip6 mine input { type filter hook input priority 0; policy drop; }",
        );
        rule("add rule ip6 mine input ct state established accept");
        rule("add rule ip6 mine input meta l4proto ipv6-icmp accept");
        assert_eq!(fetch(), None);
        rule("add rule ip6 mine input tcp dport 8080 accept");
        assert_eq!(fetch(), Some("fd00:2::2".to_owned()));
    });
}
