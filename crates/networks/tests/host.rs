//! A host of one's own: a network namespace with a store, a neighbour on its link, and ways to talk in any of them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cais_networks::netlink::{Messages, Socket, link, route};
use cais_networks::{
    Config, DnsWish, EndpointRequest, PortBinding, PortRequest, SandboxRequest, Store,
};
use cais_state::Db;
use cais_sys::netns;
use cais_types::ContainerId;

/// The host's address on the link to its neighbour.
pub const HOST: &str = "192.0.2.1";
/// The neighbour's.
pub const NEIGHBOUR: &str = "192.0.2.2";

/// A test's host. The thread that made it is in its namespace.
pub struct Host {
    pub directory: tempfile::TempDir,
    pub neighbour: OwnedFd,
}

/// Runs a test body on a thread in a fresh namespace.
pub fn on_host(body: impl FnOnce(Host) + Send + 'static) {
    let thread = thread::spawn(|| {
        netns::unshare().unwrap();
        let neighbour = spawn_space();
        let host = Socket::route().unwrap();
        let mut batch = Messages::new();
        link::up(&mut batch, 1);
        link::add_veth(
            &mut batch,
            &link::Veth {
                name: "wire0",
                peer: "wire0",
                peer_index: 2,
                netns: neighbour.as_fd(),
                mac: [2, 0, 0, 0, 0, 9],
                mtu: 1500,
                bridge: 0,
            },
        );
        link::port_up(&mut batch, "wire0", link::PortMode::default());
        host.run(&mut batch).unwrap();
        let near = link::find(&host, "wire0").unwrap().unwrap().index;
        configure(near, HOST);
        inside(&neighbour, || {
            configure(1, "127.0.0.2");
            configure(2, NEIGHBOUR);
        });
        let directory = tempfile::tempdir().unwrap();
        body(Host {
            directory,
            neighbour,
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn configure(index: u32, address: &str) {
    let mut batch = Messages::new();
    route::add_address(&mut batch, index, format!("{address}/24").parse().unwrap());
    link::up(&mut batch, index);
    Socket::route().unwrap().run(&mut batch).unwrap();
}

fn spawn_space() -> OwnedFd {
    let maker = thread::spawn(|| {
        netns::unshare().unwrap();
        netns::current().unwrap()
    });
    maker.join().unwrap()
}

/// A namespace like that of a container without networks.
pub fn space_with_loopback() -> OwnedFd {
    let space = spawn_space();
    inside(&space, || netns::bring_up_loopback().unwrap());
    space
}

/// Runs in another namespace.
pub fn inside<T: Send>(space: &OwnedFd, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            netns::enter(space.as_fd()).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

impl Host {
    pub fn config(&self) -> Config {
        Config {
            bridge: "test0".to_owned(),
            table: "cais-test".to_owned(),
            bip: Some("10.88.0.1/24".parse().unwrap()),
            resolv_conf: self.directory.path().join("resolv.conf"),
            ..Config::default()
        }
    }

    pub fn store(&self) -> Store {
        self.store_with(self.config())
    }

    pub fn store_with(&self, config: Config) -> Store {
        let db = Db::open(&self.directory.path().join("cais.db")).unwrap();
        Store::open_store(config, Arc::new(db)).unwrap()
    }
}

pub fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

/// Switches br_netfilter on or off on this host.
pub fn bridge_netfilter(on: bool) {
    let value = if on { "1" } else { "0" };
    std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", value).unwrap();
    std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", value).unwrap();
}

/// Switches it off where the kernel has it.
pub fn without_bridge_netfilter() {
    if std::path::Path::new("/proc/sys/net/bridge").exists() {
        bridge_netfilter(false);
    }
}

/// A container on the default bridge with these `(container port, host address, host port)`.
pub fn request(number: u8, ports: &[(&str, &str, &str)]) -> SandboxRequest {
    let ports = ports.iter().map(|(container_port, ip, port)| PortRequest {
        container_port: (*container_port).to_owned(),
        bindings: vec![PortBinding {
            host_ip: (*ip).to_owned(),
            host_port: (*port).to_owned(),
        }],
    });
    SandboxRequest {
        container: container(number),
        name: format!("c{number}"),
        endpoints: [("bridge".to_owned(), EndpointRequest::default())].into(),
        ports: ports.collect(),
        sysctls: [].into(),
        dns: DnsWish::default(),
    }
}

/// Answers every TCP connection with the address it came from, until the process ends.
pub fn serve(space: &OwnedFd, address: &str, port: u16) {
    let address: IpAddr = address.parse().unwrap();
    let listener = inside(space, || TcpListener::bind((address, port)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let from = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.write_all(from.as_bytes());
        }
    });
}

/// Answers every datagram with the address it came from.
pub fn serve_udp(space: &OwnedFd, port: u16) {
    let socket = inside(space, || UdpSocket::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
}

/// How long nobody answers before nobody is there; `CAIS_PATIENCE` in milliseconds, for slow machines. The kernel asks for a
/// neighbour, and sends the first packet of a connection, a second time after a second.
fn patience() -> Duration {
    let given = std::env::var("CAIS_PATIENCE").ok();
    let given = given.and_then(|text| text.parse().ok());
    Duration::from_millis(given.unwrap_or(1300))
}

/// What the server at an address answers to the calling thread's namespace.
pub fn talk(address: &str) -> io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, patience())?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn talk_udp(address: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(800)))?;
    socket.send_to(b"?", address)?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A program's standard output, run in the calling thread's namespace.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a condition holds, at most ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
