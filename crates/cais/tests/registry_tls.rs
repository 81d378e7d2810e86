//! Registries that prove who they are, or do not; mirrors and proxies: the real docker command line on our daemon, in a network
//! where no address is this machine's loopback, which would be believed anything.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use cais_testkit::{BaseImage, Space, TestDaemon, base_image};

use crate::registry_kit::{Registry, docker_refused, id};
use crate::served::Served;
use crate::{CAIS, wrapped};

const UNKNOWN: &str =
    "tls: failed to verify certificate: x509: certificate signed by unknown authority";

/// Who signs certificates, in a directory of its own.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        authority.openssl(&format!(
            "req -x509 {curve} -days 9 -subj /CN=authority -keyout ca.key -out ca.crt"
        ));
        authority
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {said}");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Signs `NAME.cert` for these names (`IP:1.2.3.4,DNS:host`), with `NAME.key`.
    fn sign(&self, name: &str, names: &str, days: i32) {
        fs::write(self.path("extensions"), format!("subjectAltName={names}\n")).unwrap();
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        self.openssl(&format!(
            "req {curve} -subj /CN={name} -keyout {name}.key -out {name}.request"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.request -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} -extfile extensions -out {name}.cert"
        ));
    }

    /// The flags of a server of ours that shows this certificate.
    fn flags(&self, name: &str) -> [String; 4] {
        let path = |kind: &str| self.path(&format!("{name}.{kind}")).display().to_string();
        let words = ["--tls-cert".to_owned(), "--tls-key".to_owned()];
        let [cert, key] = words;
        [cert, path("cert"), key, path("key")]
    }
}

/// A network with the addresses 192.0.2.1 to 192.0.2.9, where a daemon with busybox runs.
struct Net {
    daemon: TestDaemon,
    space: Space,
    certs: tempfile::TempDir,
}

impl Net {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let space = Space::new().unwrap();
        for last in 1..10 {
            space
                .ip(&format!("addr add 192.0.2.{last}/32 dev lo"))
                .unwrap();
        }
        let certs = tempfile::tempdir().unwrap();
        let own = format!("--registry-certs-dir={}", certs.path().display());
        let attempts = "--max-download-attempts=1";
        let daemon =
            TestDaemon::start_in(CAIS, &space, &[&[&*own, attempts], flags].concat()).unwrap();
        let archive = base_image(BaseImage::Busybox).unwrap();
        daemon
            .docker(&["load", "-q", "-i", &archive.to_string_lossy()])
            .unwrap();
        Self {
            daemon,
            space,
            certs,
        }
    }

    /// Starts the daemon again with these flags and its certificates.
    fn restart(&mut self, flags: &[&str]) {
        let own = format!("--registry-certs-dir={}", self.certs.path().display());
        let flags = [&[&*own, "--max-download-attempts=1"], flags].concat();
        self.daemon.restart_with(&flags).unwrap();
    }

    /// A registry of ours at an address.
    fn serve(&self, root: &Path, address: &str, flags: &[String]) -> Served {
        fs::create_dir_all(root).unwrap();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.space.inside(|| Served::at(root, address, &flags))
    }

    /// The directory of a registry's certificates and hosts.toml.
    fn directory(&self, host: &str) -> PathBuf {
        let directory = self.certs.path().join(host);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// Pushes busybox under a name and pulls it again.
    fn there_and_back(&self, name: &str) {
        let image = id(&self.daemon, "busybox");
        self.daemon.docker(&["tag", "busybox", name]).unwrap();
        self.daemon.docker(&["push", "-q", name]).unwrap();
        self.daemon.docker(&["rmi", name]).unwrap();
        self.daemon.docker(&["pull", "-q", name]).unwrap();
        assert_eq!(id(&self.daemon, name), image);
        self.daemon.docker(&["rmi", name]).unwrap();
    }

    /// Neither a push nor a pull is done, nor a login, and all say why.
    fn refuses(&self, name: &str, why: &str) {
        self.daemon.docker(&["tag", "busybox", name]).unwrap();
        let server = name.split('/').next().unwrap();
        for args in [
            &["push", name][..],
            &["pull", name],
            &["login", "-u", "me", "-p", "secret", server],
        ] {
            let error = docker_refused(&self.daemon, args);
            assert!(error.contains(why), "{args:?}: {error}");
        }
        self.daemon.docker(&["rmi", name]).unwrap();
    }
}

#[test]
fn a_registry_is_believed_that_its_authority_has_signed() {
    let (net, authority) = (Net::new(), Authority::new());
    authority.sign("good", "IP:192.0.2.1,DNS:registry.test", 9);
    authority.sign("old", "IP:192.0.2.3", -1);
    let root = net.daemon.scratch().join("served");
    let _good = net.serve(
        &root.join("good"),
        "192.0.2.1:5000",
        &authority.flags("good"),
    );
    let _other = net.serve(
        &root.join("other"),
        "192.0.2.2:5000",
        &authority.flags("good"),
    );
    let _old = net.serve(&root.join("old"), "192.0.2.3:5000", &authority.flags("old"));

    let refused = format!("Get \"https://192.0.2.1:5000/v2/\": {UNKNOWN}");
    net.refuses("192.0.2.1:5000/box:1", &refused);
    // What is put there counts from then on, for this registry only.
    let directory = net.directory("192.0.2.1:5000");
    fs::copy(authority.path("ca.crt"), directory.join("ca.crt")).unwrap();
    net.there_and_back("192.0.2.1:5000/box:1");
    net.refuses("192.0.2.2:5000/box:1", UNKNOWN);
    for host in ["192.0.2.2:5000", "192.0.2.3:5000"] {
        fs::copy(authority.path("ca.crt"), net.directory(host).join("ca.crt")).unwrap();
    }
    let other = "x509: certificate is valid for 192.0.2.1, not 192.0.2.2";
    net.refuses("192.0.2.2:5000/box:1", other);
    let old = "x509: certificate has expired or is not yet valid";
    net.refuses("192.0.2.3:5000/box:1", old);
    fs::write(directory.join("ca.crt"), "no certificate").unwrap();
    net.refuses("192.0.2.1:5000/box:1", UNKNOWN);
    fs::remove_file(directory.join("ca.crt")).unwrap();
    net.refuses("192.0.2.1:5000/box:1", UNKNOWN);
}

#[test]
fn a_registry_that_wants_certificates_of_clients_gets_the_one_that_is_there() {
    let (net, authority, stranger) = (Net::new(), Authority::new(), Authority::new());
    authority.sign("server", "IP:192.0.2.1", 9);
    authority.sign("client", "DNS:client", 9);
    stranger.sign("client", "DNS:client", 9);
    let show = |file: &str| authority.path(file).display().to_string();
    let tls = format!(
        ", tls: {{certificate: {}, key: {}, clientcas: [{}]}}",
        show("server.cert"),
        show("server.key"),
        show("ca.crt")
    );
    let directory = tempfile::tempdir().unwrap();
    let start = || Registry::at(directory, "192.0.2.1", &tls, "");
    let registry = net.space.inside(start);
    let host = format!("192.0.2.1:{}", registry.port);
    let name = format!("{host}/box:1");
    let own = net.directory(&host);
    fs::copy(authority.path("ca.crt"), own.join("ca.crt")).unwrap();
    let refused = format!("Get \"https://{host}/v2/\": remote error: tls: ");
    net.refuses(&name, &refused);
    fs::copy(authority.path("client.cert"), own.join("client.cert")).unwrap();
    net.refuses(&name, "missing key");
    fs::copy(authority.path("client.key"), own.join("client.key")).unwrap();
    net.there_and_back(&name);
    for file in ["client.cert", "client.key"] {
        fs::copy(stranger.path(file), own.join(file)).unwrap();
    }
    net.refuses(&name, &refused);
    fs::remove_file(own.join("client.cert")).unwrap();
    net.refuses(&name, "missing client certificate");
}

#[test]
fn only_registries_that_are_listed_need_not_prove_who_they_are() {
    let (mut net, authority) = (Net::new(), Authority::new());
    authority.sign("server", "DNS:somebody.else", 9);
    let root = net.daemon.scratch().join("served");
    let _any = net.serve(
        &root.join("any"),
        "192.0.2.1:5000",
        &authority.flags("server"),
    );
    let _plain = net.serve(&root.join("plain"), "192.0.2.5:5000", &[]);
    let plain = "http: server gave HTTP response to HTTPS client";
    net.refuses("192.0.2.1:5000/box:1", UNKNOWN);
    net.refuses("192.0.2.5:5000/box:1", plain);
    // Certificates that are there do not make it speak without.
    let own = net.directory("192.0.2.5:5000");
    fs::copy(authority.path("ca.crt"), own.join("ca.crt")).unwrap();
    net.refuses("192.0.2.5:5000/box:1", plain);
    net.restart(&[
        "--insecure-registry=192.0.2.1:5000",
        "--insecure-registry=192.0.2.4/30",
    ]);
    net.there_and_back("192.0.2.1:5000/box:1");
    net.there_and_back("192.0.2.5:5000/box:1");
    let shown = net
        .daemon
        .docker(&["info", "-f", "{{json .RegistryConfig}}"])
        .unwrap();
    assert!(
        shown.contains("192.0.2.4/30") && shown.contains("192.0.2.1:5000"),
        "{shown}"
    );
    net.restart(&[]);
    net.refuses("192.0.2.1:5000/box:1", UNKNOWN);
    net.refuses("192.0.2.5:5000/box:1", plain);
}

#[test]
fn cve_2014_5277_a_registry_that_is_not_listed_is_never_asked_without_tls() {
    let net = Net::new();
    // Who sits in the middle hears what comes and hangs up, at every port that might be tried.
    let heard: Arc<Mutex<Vec<(u16, u8)>>> = Arc::default();
    for port in [80, 443, 5000] {
        let listener = net
            .space
            .inside(|| TcpListener::bind(("192.0.2.1", port)).unwrap());
        let heard = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut first = [0];
                let _gone = client.read(&mut first);
                heard.lock().unwrap().push((port, first[0]));
            }
        });
    }
    let mut login = net.daemon.client("docker", &["login", "192.0.2.1"]);
    login.args(["-u", "me", "-p", "secret"]).output().unwrap();
    for name in ["192.0.2.1/box:1", "192.0.2.1:5000/box:1"] {
        net.daemon.docker(&["tag", "busybox", name]).unwrap();
        docker_refused(&net.daemon, &["push", name]);
        docker_refused(&net.daemon, &["pull", name]);
    }
    // Every connection began with a greeting of TLS.
    let heard = heard.lock().unwrap();
    assert!(heard.iter().all(|(_, first)| *first == 0x16), "{heard:?}");
    let ports = |wanted: u16| heard.iter().filter(|(port, _)| *port == wanted).count();
    assert!(ports(443) > 0 && ports(5000) > 0, "{heard:?}");
    assert_eq!(ports(80), 0);
}

#[test]
fn mirrors_are_asked_in_turn_and_the_next_when_one_is_down() {
    let (mut net, authority) = (Net::new(), Authority::new());
    authority.sign("mirror", "IP:192.0.2.1", 9);
    let root = net.daemon.scratch().join("served");
    let flags = authority.flags("mirror");
    let mirror = net.serve(&root.join("mirror"), "192.0.2.1:5000", &flags);
    let _empty = net.serve(&root.join("empty"), "192.0.2.2:5000", &[]);
    let own = net.directory("192.0.2.1:5000");
    fs::copy(authority.path("ca.crt"), own.join("ca.crt")).unwrap();
    net.there_and_back("192.0.2.1:5000/team/box:1");

    // One that is down, one that does not have it, one that has.
    let other = net.directory("registry.invalid");
    fs::copy(authority.path("ca.crt"), other.join("mirror.pem")).unwrap();
    let hosts = r#"server = "https://registry.invalid"
[host."https://192.0.2.9:1"]
capabilities = ["pull", "resolve"]
[host."http://192.0.2.2:5000"]
capabilities = ["pull", "resolve"]
[host."https://192.0.2.1:5000"]
capabilities = ["pull", "resolve"]
ca = "mirror.pem"
"#;
    fs::write(other.join("hosts.toml"), hosts).unwrap();
    let name = "registry.invalid/team/box:1";
    net.daemon.docker(&["pull", "-q", name]).unwrap();
    assert_eq!(id(&net.daemon, name), id(&net.daemon, "busybox"));
    // Nothing is pushed to a mirror.
    let error = docker_refused(&net.daemon, &["push", name]);
    assert!(error.contains("lookup registry.invalid"), "{error}");
    net.daemon.docker(&["rmi", name]).unwrap();

    // Those of Docker Hub are in daemon.json.
    let daemon = net.daemon.scratch().join("daemon.json");
    let mirrors = r#"{"registry-mirrors": ["https://192.0.2.9:1", "https://192.0.2.1:5000"]}"#;
    fs::write(daemon, mirrors).unwrap();
    net.restart(&[]);
    net.daemon.docker(&["pull", "-q", "team/box:1"]).unwrap();
    assert_eq!(id(&net.daemon, "team/box:1"), id(&net.daemon, "busybox"));
    net.daemon.docker(&["rmi", "team/box:1"]).unwrap();
    mirror.end();
    for (name, origin) in [
        (name, "registry.invalid"),
        ("team/box:1", "registry-1.docker.io"),
    ] {
        let error = docker_refused(&net.daemon, &["pull", name]);
        assert!(error.contains(origin), "{error}");
    }
}

/// A proxy that notes what it is asked for.
struct Proxy(Arc<Mutex<Vec<String>>>);

impl Proxy {
    /// At 192.0.2.7:3128 of a network.
    fn start(space: &Space) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let own = Arc::clone(&asked);
        let listener = space.inside(|| TcpListener::bind("192.0.2.7:3128").unwrap());
        let netns = fs::File::open(space.path()).unwrap();
        std::thread::spawn(move || {
            let space = Space::of(netns.into());
            for client in listener.incoming().flatten() {
                let (asked, target) = (Arc::clone(&own), read_head(&client));
                let Some((first, head)) = target else {
                    continue;
                };
                asked.lock().unwrap().push(head.clone());
                let host = first.trim_start_matches("http://").split('/').next();
                let host = host.unwrap_or_default().to_owned();
                let server = space.inside(|| TcpStream::connect(&host));
                let Ok(server) = server else { continue };
                std::thread::spawn(move || forward(&client, &server, &head, &first));
            }
        });
        Self(asked)
    }

    /// What it was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The target of a request, and its whole head.
fn read_head(client: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::with_capacity(1, client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let target = head.split(' ').nth(1)?.to_owned();
    Some((target, head))
}

/// One tunnel, or one plain request and its answer.
fn forward(mut client: &TcpStream, mut server: &TcpStream, head: &str, target: &str) {
    if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        let path = target.trim_start_matches("http://");
        let path = path.find('/').map_or("/", |at| &path[at..]);
        let own = |line: &&str| !line.to_lowercase().starts_with("proxy-");
        let lines: Vec<&str> = head.trim_end().lines().skip(1).filter(own).collect();
        let lines = lines.join("\r\n");
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n\r\n");
        let request = match head.starts_with("HEAD ") {
            true => request.replacen("GET", "HEAD", 1),
            false => request,
        };
        server.write_all(request.as_bytes()).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ends = std::io::copy(&mut &*client, &mut &*server);
            let _ = server.shutdown(std::net::Shutdown::Write);
        });
        let _ends = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = server.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn proxies_are_asked_but_for_what_is_direct() {
    let authority = Authority::new();
    let mut net = Net::with(&["--insecure-registry=192.0.2.3:5000"]);
    authority.sign("server", "IP:192.0.2.1,IP:192.0.2.2", 9);
    let root = net.daemon.scratch().join("served");
    let flags = authority.flags("server");
    let _far = net.serve(&root.join("far"), "192.0.2.1:5000", &flags);
    let _near = net.serve(&root.join("near"), "192.0.2.2:5000", &flags);
    let _plain = net.serve(&root.join("plain"), "192.0.2.3:5000", &[]);
    for host in ["192.0.2.1:5000", "192.0.2.2:5000"] {
        fs::copy(authority.path("ca.crt"), net.directory(host).join("ca.crt")).unwrap();
    }
    let names = ["1", "2", "3"].map(|last| format!("192.0.2.{last}:5000/box:1"));
    for name in &names {
        net.there_and_back(name);
    }
    let proxy = Proxy::start(&net.space);
    // What the proxy is asked for first and last, and whether with a name and a password.
    let pull = |net: &Net, name: &str| {
        net.daemon.docker(&["pull", "-q", name]).unwrap();
        net.daemon.docker(&["rmi", name]).unwrap();
        let asked = proxy.asked();
        let line = |head: Option<&String>| {
            let line = head.and_then(|head| head.lines().next());
            line.unwrap_or_default().to_owned()
        };
        let with_name = asked.iter().all(|head| {
            let head = head.to_lowercase();
            head.contains("proxy-authorization: basic bwu6c2vjcmv0")
        });
        (line(asked.first()), line(asked.last()), with_name)
    };
    let tunnel = "CONNECT 192.0.2.1:5000 HTTP/1.1";

    // daemon.json; the name and the password are for the proxy.
    let file = net.daemon.scratch().join("daemon.json");
    let url = "http://me:secret@192.0.2.7:3128";
    let proxies = format!(
        r#"{{"proxies": {{"http-proxy": "{url}", "https-proxy": "{url}", "no-proxy": "192.0.2.2"}}}}"#
    );
    fs::write(&file, proxies).unwrap();
    net.restart(&["--insecure-registry=192.0.2.3:5000"]);
    let (first, _, with_name) = pull(&net, &names[0]);
    assert_eq!((first.as_str(), with_name), (tunnel, true));
    assert_eq!(pull(&net, &names[1]).0, "");
    let (_, last, with_name) = pull(&net, &names[2]);
    assert!(last.contains(" http://192.0.2.3:5000/v2/"), "{last}");
    assert!(with_name);
    let info = ["info", "-f", "{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}"];
    let masked = "http://xxxxx:xxxxx@192.0.2.7:3128";
    let shown = net.daemon.docker(&info).unwrap();
    assert_eq!(shown, format!("{masked} {masked} 192.0.2.2\n"));

    // Flags.
    fs::write(&file, "{}").unwrap();
    net.restart(&["--https-proxy=192.0.2.7:3128", "--no-proxy=192.0.2.0/31"]);
    assert_eq!(pull(&net, &names[0]).0, "");
    assert_eq!(pull(&net, &names[1]).0, "CONNECT 192.0.2.2:5000 HTTP/1.1");
    net.restart(&["--https-proxy=192.0.2.7:1"]);
    let error = docker_refused(&net.daemon, &["pull", &names[0]]);
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn proxies_of_the_environment_are_asked() {
    let authority = Authority::new();
    let setup = "export HTTPS_PROXY=http://192.0.2.7:3128 no_proxy=192.0.2.2";
    let wrapper = wrapped(authority.0.path(), setup);
    let mut net = Net::new();
    authority.sign("server", "IP:192.0.2.1,IP:192.0.2.2", 9);
    let root = authority.path("served");
    let flags = authority.flags("server");
    let _far = net.serve(&root.join("far"), "192.0.2.1:5000", &flags);
    let _near = net.serve(&root.join("near"), "192.0.2.2:5000", &flags);
    for host in ["192.0.2.1:5000", "192.0.2.2:5000"] {
        fs::copy(authority.path("ca.crt"), net.directory(host).join("ca.crt")).unwrap();
        net.there_and_back(&format!("{host}/box:1"));
    }
    let proxy = Proxy::start(&net.space);
    let own = format!("--registry-certs-dir={}", net.certs.path().display());
    net.daemon = TestDaemon::start_in(&wrapper, &net.space, &[&own]).unwrap();
    net.daemon
        .docker(&["pull", "192.0.2.2:5000/box:1"])
        .unwrap();
    assert!(proxy.asked().is_empty());
    net.daemon
        .docker(&["pull", "192.0.2.1:5000/box:1"])
        .unwrap();
    let asked = proxy.asked();
    assert!(asked[0].starts_with("CONNECT 192.0.2.1:5000 "), "{asked:?}");
}
