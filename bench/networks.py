"""Networks: throughput and connections through what the engines build, beside a bare veth pair with one DNAT rule; the price of
published ports at a start; the rate of name answers. Servers and clients are processes of this script in the right namespaces."""

import contextlib
import os
import socket
import statistics
import struct
import subprocess
import sys
import time

SECONDS = float(os.environ.get("BENCH_NET_SECONDS", "3"))
PORTS = int(os.environ.get("BENCH_PORTS", "200"))
LATE = int(os.environ.get("BENCH_LATE", "1000"))
BLOCK = 1 << 20


def serve_bytes(port):
    """Reads everything from every connection and answers one byte at its end; a connection that sends nothing gets one too."""
    listener = socket.create_server(("0.0.0.0", port), backlog=1024, reuse_port=True)
    print("ready", flush=True)
    buffer = bytearray(BLOCK)
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv_into(buffer):
                pass
            with contextlib.suppress(OSError):
                connection.send(b".")


def throughput(host, port):
    """GB per second into a server, from a file in memory so that nothing is copied here."""
    source = os.memfd_create("zeros")
    os.truncate(source, 64 * BLOCK)
    sent = 0
    with socket.create_connection((host, port)) as connection:
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            sent += os.sendfile(connection.fileno(), source, 0, 64 * BLOCK)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        elapsed = SECONDS + time.perf_counter() - end
    print(sent / elapsed / 1e9)


def connections(host, port):
    """New connections per second, one after the other."""
    count, end = 0, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        with socket.create_connection((host, port)) as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
        count += 1
    print(count / SECONDS)


def names(name, window):
    """Answers per second for a name, with so many questions under way, and the 99th percentile of their times in ms."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.11", 53))
    client.settimeout(2)
    sent, times, number = {}, [], 0

    def ask():
        nonlocal number
        number = (number + 1) & 0xFFFF
        sent[number] = time.perf_counter()
        client.send(struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + question)

    for _ in range(int(window)):
        ask()
    start = time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        answer = client.recv(512)
        if answer[6:8] == b"\0\0":
            raise SystemExit("no address in the answer")
        times.append(time.perf_counter() - sent.pop(struct.unpack(">H", answer[:2])[0]))
        ask()
    times.sort()
    print(len(times) / (time.perf_counter() - start), times[len(times) * 99 // 100] * 1000)


WORKERS = {"serve": lambda port: serve_bytes(int(port)), "throughput": lambda host, port: throughput(host, int(port)),
           "connections": lambda host, port: connections(host, int(port)), "names": names}


class Place:
    """A network namespace, by the words that enter it."""

    def __init__(self, enter):
        self.enter = list(enter)

    def command(self, *words):
        return [*self.enter, sys.executable, os.path.abspath(__file__), *map(str, words)]

    def numbers(self, *words):
        result = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"{words}: {result.stderr.strip()[-300:]}")
        return [float(word) for word in result.stdout.split()]

    @contextlib.contextmanager
    def server(self, port):
        process = subprocess.Popen(self.command("serve", port), stdout=subprocess.PIPE, text=True)
        try:
            process.stdout.readline()
            yield
        finally:
            process.kill()
            process.wait()


def container(engine, name):
    pid = engine.cli("inspect", "-f", "{{.State.Pid}}", name).strip()
    return Place(["nsenter", f"--net=/proc/{pid}/ns/net"])


def address(engine, name):
    return engine.cli("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name).strip()


@contextlib.contextmanager
def bare():
    """Two namespaces with one veth pair and one DNAT rule; answers both places, the far address and the near one."""
    near, far = f"caisnear{os.getpid()}", f"caisfar{os.getpid()}"
    run = lambda *words: subprocess.run(words, check=True, capture_output=True)
    for name in (near, far):
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
    try:
        run("ip", "-n", near, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", far)
        for name, own in ((near, "10.250.0.1/24"), (far, "10.250.0.2/24")):
            run("ip", "-n", name, "addr", "add", own, "dev", "v0")
            run("ip", "-n", name, "link", "set", "v0", "up")
        rule = "add table ip t; add chain ip t o { type nat hook output priority -100; }; add rule ip t o tcp dport 8080 dnat to 10.250.0.2:80"
        run("ip", "netns", "exec", near, "nft", rule)
        enter = lambda name: Place(["nsenter", f"--net=/run/netns/{name}"])
        yield enter(near), enter(far), "10.250.0.2", "10.250.0.1"
    finally:
        for name in (near, far):
            run("ip", "netns", "delete", name)


def measure_flows(engines, report):
    rates, per_second = {}, {}
    with bare() as (near, far, direct, published), far.server(80):
        rates["bare"] = {"host to container": near.numbers("throughput", direct, 80), "published port": near.numbers("throughput", published, 8080)}
        rates["bare"]["container to container"] = rates["bare"]["host to container"]
        per_second["bare"] = near.numbers("connections", published, 8080)
    for engine in engines:
        engine.cli("run", "-d", "--name", "flow-a", "-p", "18080:80", "busybox", "sleep", "100000")
        engine.cli("run", "-d", "--name", "flow-b", "busybox", "sleep", "100000")
        host = Place(getattr(engine, "network_prefix", ()))
        server, client, at = container(engine, "flow-a"), container(engine, "flow-b"), address(engine, "flow-a")
        gateway = engine.cli("inspect", "-f", "{{.NetworkSettings.Gateway}}", "flow-a").strip()
        with server.server(80):
            rates[engine.name] = {
                "host to container": host.numbers("throughput", at, 80),
                "container to container": client.numbers("throughput", at, 80),
                "published port": host.numbers("throughput", gateway, 18080),
            }
            per_second[engine.name] = host.numbers("connections", gateway, 18080)
            if engine.name != "cais":
                # By 127.0.0.1 the peer goes through its proxy process.
                per_second[f"{engine.name}, by its proxy"] = host.numbers("connections", "127.0.0.1", 18080)
        engine.remove_all()
    for what in ("host to container", "container to container", "published port"):
        report(f"GB/s, {what}", {name: measured[what] for name, measured in rates.items()}, "GB/s")
    report("connections/s, published", per_second, "/s")


def measure_ports(engines, report, rounds):
    plain, many = {}, {}
    for engine in engines:
        plain[engine.name], many[engine.name] = [], []
        flags = [word for port in range(PORTS) for word in ("-p", f"{21000 + port}:{1000 + port}")]
        for _ in range(rounds):
            for samples, more in ((plain, []), (many, flags)):
                engine.cli("create", "--name", "ports", *more, "busybox", "sleep", "100000")
                samples[engine.name].append(engine.time("start", "ports"))
                engine.cli("rm", "-f", "ports")
    report("start without ports", plain)
    report(f"start with {PORTS} ports", many)


def measure_late(engines, report):
    for engine in engines:
        if engine.name != "cais":
            continue
        times = []
        for number in range(LATE):
            words = ["run", "-d", "-p", f"127.0.0.1:{30000 + number}:80", "busybox", "sleep", "100000"]
            times.append(engine.time(*words))
        early, late = statistics.median(times[5:25]), statistics.median(times[-20:])
        print(f"{'10th and ' + str(LATE) + 'th with a port':28} cais {early:.1f} and {late:.1f} ms ({late / early:.2f}x)")
        engine.remove_all()


def measure_names(engines, report):
    rate, slowest = {}, {}
    for engine in engines:
        engine.cli("network", "create", "bench-names")
        for name in ("asked", "asks"):
            engine.cli("run", "-d", "--name", name, "--network", "bench-names", "busybox", "sleep", "100000")
        client = container(engine, "asks")
        # As fast as it goes, then with few questions under way, for the time of one.
        rate[engine.name] = client.numbers("names", "asked", 64)[:1]
        slowest[engine.name] = client.numbers("names", "asked", 4)[1:]
        engine.remove_all()
        engine.cli("network", "rm", "bench-names")
    report("names/s", rate, "/s")
    report("names, 99th percentile", slowest)


def measure(engines, report, rounds):
    engines = [engine for engine in engines if "bridge" in engine.networks]
    measure_flows(engines, report)
    measure_ports(engines, report, rounds)
    measure_names(engines, report)
    measure_late(engines, report)


if __name__ == "__main__":
    WORKERS[sys.argv[1]](*sys.argv[2:])
