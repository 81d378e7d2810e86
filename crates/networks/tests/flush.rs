//! Somebody else removes our tables: they come back by themselves.

use cais_networks::{EndpointRequest, NetworkRequest, SandboxRequest};

use crate::host::{
    HOST, NEIGHBOUR, container, eventually, inside, on_host, output, request, serve, talk,
};

/// `nft flush ruleset` is what scripts of rules begin with (`/etc/nftables.conf`), and what some do for a reload.
#[test]
fn published_ports_and_isolation_survive_a_flush_of_all_rules() {
    on_host(|host| {
        let store = host.store();
        store
            .create_network(&NetworkRequest {
                name: "six".to_owned(),
                ipv6: Some(true),
                ..NetworkRequest::default()
            })
            .unwrap();
        let ports = [("80/tcp", "", "8080"), ("80/tcp", "127.0.0.1", "8081")];
        let web = store.open(&request(1, &ports)).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        let other = store
            .open(&SandboxRequest {
                endpoints: [("six".to_owned(), EndpointRequest::default())].into(),
                ..request(2, &[])
            })
            .unwrap();
        let published = format!("{HOST}:8080");
        let fetch = || inside(&host.neighbour, || talk(&published).ok());
        assert_eq!(fetch().as_deref(), Some(NEIGHBOUR));
        for script in [
            "flush ruleset",
            "flush ruleset; add table ip mine; add chain ip mine input { type filter hook input priority 0; }",
            "delete table ip6 cais-test",
        ] {
            output("nft", &[script]);
            eventually("the published port", || {
                fetch().as_deref() == Some(NEIGHBOUR)
            });
            eventually("both tables", || {
                let listed = output("nft", &["list", "tables"]);
                ["table ip cais-test\n", "table ip6 cais-test\n"]
                    .iter()
                    .all(|table| listed.contains(table))
            });
            crate::firewall::agreed(&store);
            assert_eq!(talk("127.0.0.1:8081").unwrap(), "10.88.0.1");
            assert!(
                inside(&other.netns, || talk("10.88.0.2:80").is_err()),
                "bridges are apart"
            );
        }
        let listed = output("nft", &["list", "table", "ip", "mine"]);
        assert!(listed.contains("hook input"), "{listed}");

        // What changes later changes the table that came back.
        store.close(&container(1)).unwrap();
        store.settle();
        let listed = output("nft", &["list", "table", "ip", "cais-test"]);
        assert!(!listed.contains("8080"), "{listed}");
        store.close(&container(2)).unwrap();
        store.destroy().unwrap();
        assert_eq!(output("nft", &["list", "tables"]), "table ip mine\n");
    });
}
