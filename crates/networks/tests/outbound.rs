//! By hand only: outbound traffic of a container on this machine's real network.

use std::sync::Arc;

use cais_networks::{Config, Store};
use cais_state::Db;

use crate::host::{container, inside, output, request};

#[test]
#[ignore = "needs the machine's own network and Debian's package mirror"]
fn a_container_reaches_the_package_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(&directory.path().join("cais.db")).unwrap();
    let config = Config {
        bridge: "caistest0".to_owned(),
        table: "cais-outbound-test".to_owned(),
        bip: Some("10.214.77.1/24".parse().unwrap()),
        ..Config::default()
    };
    let store = Store::open_store(config, Arc::new(db)).unwrap();
    let sandbox = store.open(&request(7, &[])).unwrap();
    let answer = inside(&sandbox.netns, || {
        let url = std::env::var("MIRROR")
            .unwrap_or("http://deb.debian.org/debian/dists/bookworm/InRelease".into());
        output(
            "curl",
            &[
                "-sS",
                "-m",
                "10",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                &url,
            ],
        )
    });
    store.close(&container(7)).unwrap();
    store.destroy().unwrap();
    assert_eq!(answer, "200");
}
