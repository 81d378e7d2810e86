//! docker-compose 1.29 and the plugin 2.26 of docker bring projects up and down on a daemon of ours.

use std::process::Command;

use cais_testkit::{TestDaemon, from_trixie, wait_until};

use crate::daemon;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compose {
    /// `docker-compose` in Python.
    One,
    /// `docker compose`.
    Two,
}

struct Project<'a> {
    compose: Compose,
    daemon: &'a TestDaemon,
    file: String,
    name: String,
}

impl<'a> Project<'a> {
    fn new(compose: Compose, daemon: &'a TestDaemon, text: &str) -> Self {
        let path = daemon.scratch().join("docker-compose.yml");
        std::fs::write(&path, text).unwrap();
        if compose == Compose::Two {
            let package = from_trixie("docker-compose").unwrap();
            let plugins = daemon.scratch().join("config/cli-plugins");
            std::fs::create_dir_all(&plugins).unwrap();
            let plugin = package.join("usr/libexec/docker/cli-plugins/docker-compose");
            std::os::unix::fs::symlink(plugin, plugins.join("docker-compose")).unwrap();
        }
        Self {
            compose,
            daemon,
            file: path.to_string_lossy().into_owned(),
            name: format!("p{}", daemon.subnet().number()),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let args = [&["-f", &self.file, "-p", &self.name], args].concat();
        match self.compose {
            Compose::One => self.daemon.client("docker-compose", &args),
            Compose::Two => self
                .daemon
                .client("docker", &[&["compose"], &args[..]].concat()),
        }
    }

    /// The name of a service's container.
    fn container(&self, service: &str, number: u32) -> String {
        let Self { name, compose, .. } = self;
        match compose {
            Compose::One => format!("{name}_{service}_{number}"),
            Compose::Two => format!("{name}-{service}-{number}"),
        }
    }

    /// Takes the project down and looks for what is left.
    fn down(&self) {
        self.run(&["down", "-t", "0"]);
        assert_eq!(self.daemon.cais(&["ps", "-aq"]).unwrap(), "");
        let left = ["network", "ls", "--filter=type=custom", "-q"];
        assert_eq!(self.daemon.cais(&left).unwrap(), "");
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

/// The addresses that a service's name has for a container of another.
fn addresses(project: &Project<'_>, from: &str, name: &str) -> Vec<String> {
    let answer = project.run(&["exec", "-T", from, "nslookup", name]);
    // The first address is the server's.
    let lines = answer.lines().filter(|line| line.starts_with("Address"));
    lines.skip(1).map(str::to_owned).collect()
}

fn two_services(compose: Compose) {
    let daemon = daemon();
    let text = format!(
        "services:\n  web:\n    image: busybox\n    hostname: page\n    {SERVE}\n    ports: ['127.0.0.1::80']\n  \
         client:\n    image: busybox\n    command: sh -c 'echo started; exec sleep 1000'\n    depends_on: [web]\n"
    );
    let project = Project::new(compose, &daemon, &text);
    project.run(&["up", "-d"]);
    assert_eq!(project.fetch("client", "web"), "page\n");
    let web = project.container("web", 1);
    let client = project.container("client", 1);
    assert_eq!(project.fetch("client", &web), "page\n");
    let port = project.run(&["port", "web", "80"]);
    wait_until("the published port", || {
        std::net::TcpStream::connect(port.trim()).is_ok()
    });
    let listed = project.run(&["ps"]);
    assert!(
        listed.contains(&web) && listed.contains(&client),
        "{listed}"
    );
    assert!(
        listed.contains(&format!("{}->80/tcp", port.trim())),
        "{listed}"
    );
    wait_until("the log", || {
        project
            .run(&["logs", "--no-color", "client"])
            .contains("| started")
    });
    let failed = project.command(&["exec", "-T", "client", "sh", "-c", "echo no >&2; exit 7"]);
    let failed = { failed }.output().unwrap();
    let words = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(
        (failed.status.code(), words.starts_with("no\n")),
        (Some(7), true),
        "{words}"
    );
    project.run(&["stop", "-t", "0"]);
    project.run(&["start"]);
    assert_eq!(project.fetch("client", "web"), "page\n");
    project.down();
}

#[test]
fn two_services_find_each_other_and_are_gone_afterwards() {
    two_services(Compose::One);
}

#[test]
fn two_services_find_each_other_by_the_plugin() {
    two_services(Compose::Two);
}

fn three_services(compose: Compose) {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let text = format!(
        "services:\n  \
           proxy:\n    image: busybox\n    command: sleep 1000\n    networks: [front]\n  \
           app:\n    image: busybox\n    {SERVE}\n    networks:\n      front:\n        aliases: [api]\n      back:\n        \
             ipv4_address: 10.217.{number}.9\n  \
           db:\n    image: busybox\n    hostname: store\n    {SERVE}\n    networks: [back]\n    links: []\n\
         networks:\n  front:\n  back:\n    internal: true\n    ipam:\n      config: [{{subnet: 10.217.{number}.0/24}}]\n"
    );
    let project = Project::new(compose, &daemon, &text);
    project.run(&["up", "-d"]);
    let app = project.fetch("proxy", "app");
    assert_eq!(project.fetch("proxy", "api"), app);
    assert_eq!(project.fetch("app", "db"), "store\n");
    let direct = format!("wget -qO- http://10.217.{number}.9/");
    let direct = project.run(&["exec", "-T", "db", "sh", "-c", &direct]);
    assert_eq!(direct, app);
    let hidden = ["exec", "-T", "proxy", "nslookup", "db"];
    assert!(!project.command(&hidden).output().unwrap().status.success());
    assert_eq!(addresses(&project, "app", "proxy").len(), 1);
    project.run(&["up", "-d", "-t", "0", "--scale", "proxy=3"]);
    assert_eq!(addresses(&project, "app", "proxy").len(), 3);
    project.run(&["up", "-d", "-t", "0", "--scale", "proxy=2"]);
    assert_eq!(addresses(&project, "app", "proxy").len(), 2);
    project.down();
}

#[test]
fn three_services_on_two_networks_see_what_they_share() {
    three_services(Compose::One);
}

#[test]
fn three_services_on_two_networks_by_the_plugin() {
    three_services(Compose::Two);
}
