//! docker-compose 1.29 brings projects up and down on a daemon of ours.

use std::process::Command;

use cais_testkit::{TestDaemon, wait_until};

use crate::daemon;

struct Project<'a> {
    daemon: &'a TestDaemon,
    file: String,
    name: String,
}

impl<'a> Project<'a> {
    fn new(daemon: &'a TestDaemon, text: &str) -> Self {
        let path = daemon.scratch().join("docker-compose.yml");
        std::fs::write(&path, text).unwrap();
        Self {
            daemon,
            file: path.to_string_lossy().into_owned(),
            name: format!("p{}", daemon.subnet().number()),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let args = [&["-f", &self.file, "-p", &self.name], args].concat();
        self.daemon.client("docker-compose", &args)
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a page fetched inside a service says, as soon as somebody answers.
    fn fetch(&self, service: &str, host: &str) -> String {
        // A static busybox looks names up with nslookup only.
        let script = format!(
            "until a=$(nslookup {host} | sed -n 's/^Address: \\([0-9.]*\\)$/\\1/p' | tail -n1); [ -n \"$a\" ] && \
             wget -qO- http://$a/ 2>/dev/null; do sleep 0.05; done"
        );
        self.run(&["exec", "-T", service, "timeout", "10", "sh", "-c", &script])
    }
}

const SERVE: &str = r#"command: sh -c "hostname > /var/www/index.html; exec httpd -f -h /var/www""#;

#[test]
fn two_services_find_each_other_and_are_gone_afterwards() {
    let daemon = daemon();
    let text = format!(
        "version: '3.7'\nservices:\n  web:\n    image: busybox\n    hostname: page\n    {SERVE}\n    ports: ['127.0.0.1::80']\n  \
         client:\n    image: busybox\n    command: sleep 1000\n    depends_on: [web]\n"
    );
    let project = Project::new(&daemon, &text);
    project.run(&["up", "-d"]);
    assert_eq!(project.fetch("client", "web"), "page\n");
    let name = format!("{}_web_1", project.name);
    assert_eq!(project.fetch("client", &name), "page\n");
    let port = project.run(&["port", "web", "80"]);
    wait_until("the published port", || {
        std::net::TcpStream::connect(port.trim()).is_ok()
    });
    let listed = project.run(&["ps"]);
    assert!(
        listed.contains("_web_1") && listed.contains("_client_1"),
        "{listed}"
    );
    project.run(&["stop", "-t", "0"]);
    project.run(&["start"]);
    assert_eq!(project.fetch("client", "web"), "page\n");
    project.run(&["down", "-t", "0"]);
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    let networks = daemon
        .cais(&["network", "ls", "--filter=type=custom", "-q"])
        .unwrap();
    assert_eq!(networks, "");
}

#[test]
fn three_services_on_two_networks_see_what_they_share() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let text = format!(
        "version: '3.7'\n\
         services:\n  \
           proxy:\n    image: busybox\n    command: sleep 1000\n    networks: [front]\n  \
           app:\n    image: busybox\n    {SERVE}\n    networks:\n      front:\n        aliases: [api]\n      back:\n        \
             ipv4_address: 10.217.{number}.9\n  \
           db:\n    image: busybox\n    hostname: store\n    {SERVE}\n    networks: [back]\n    links: []\n\
         networks:\n  front:\n  back:\n    internal: true\n    ipam:\n      config: [{{subnet: 10.217.{number}.0/24}}]\n"
    );
    let project = Project::new(&daemon, &text);
    project.run(&["up", "-d"]);
    let app = project.fetch("proxy", "app");
    assert_eq!(project.fetch("proxy", "api"), app);
    assert_eq!(project.fetch("app", "db"), "store\n");
    let direct = format!("wget -qO- http://10.217.{number}.9/");
    let direct = project.run(&["exec", "-T", "db", "sh", "-c", &direct]);
    assert_eq!(direct, app);
    let hidden = ["exec", "-T", "proxy", "nslookup", "db"];
    assert!(!project.command(&hidden).output().unwrap().status.success());
    project.run(&["up", "-d", "-t", "0", "--scale", "proxy=3"]);
    let found = project.run(&["exec", "-T", "app", "nslookup", "proxy"]);
    let addresses = found
        .lines()
        .filter(|line| line.starts_with("Address") && line.contains("10.2"));
    assert!(addresses.count() >= 3, "{found}");
    project.run(&["down", "-t", "0"]);
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    let networks = daemon
        .cais(&["network", "ls", "--filter=type=custom", "-q"])
        .unwrap();
    assert_eq!(networks, "");
}
