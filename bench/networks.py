"""Networks: throughput and connections through what the engines build, beside a bare veth pair with one DNAT rule; the price of
published ports at a start; the rate of name answers. Servers and clients are processes of `load` (in testkit) in the right
namespaces; the peers take turns in every round."""

import contextlib
import os
import pathlib
import statistics
import subprocess

LOAD = str(pathlib.Path(__file__).resolve().parents[1] / "target/release/load")
SECONDS = os.environ.get("BENCH_NET_SECONDS", "1")
FLOW_ROUNDS = int(os.environ.get("BENCH_FLOW_ROUNDS", "9"))
PORTS = int(os.environ.get("BENCH_PORTS", "200"))
LATE = int(os.environ.get("BENCH_LATE", "1000"))


@contextlib.contextmanager
def awake():
    """No processor halts meanwhile: where one is a virtual machine's, waking it takes longer than a connection."""
    spin = ["chrt", "--idle", "0", "sh", "-c", "while :; do :; done"]
    spinning = [subprocess.Popen(["taskset", "--cpu-list", str(number), *spin]) for number in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


class Place:
    """A network namespace, by the words that enter it."""

    def __init__(self, enter):
        self.enter = list(enter)

    def command(self, processor, *words):
        # Each side has a processor of its own, so that the scheduler's choices are no part of the figures.
        return [*self.enter, "taskset", "--cpu-list", str(processor), LOAD, *map(str, words)]

    def numbers(self, *words):
        result = subprocess.run(self.command(0, *words), capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"{words}: {result.stderr.strip()[-300:]}")
        return [float(word) for word in result.stdout.split()]

    def throughput(self, host, port):
        return self.numbers("throughput", f"{host}:{port}", SECONDS)[0]

    def connections(self, host, port):
        return self.numbers("connections", f"{host}:{port}", SECONDS)[0]

    def names(self, name, window):
        return self.numbers("names", name, window, SECONDS)

    @contextlib.contextmanager
    def server(self, port):
        process = subprocess.Popen(self.command(os.cpu_count() - 1, "serve", port), stdout=subprocess.PIPE, text=True)
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


@contextlib.contextmanager
def bare_flows():
    with bare() as (near, far, direct, published), far.server(80):
        to_container = lambda: near.throughput(direct, 80)
        yield {"host to container": to_container, "container to container": to_container,
               "published port": lambda: near.throughput(published, 8080)}, {"bare": lambda: near.connections(published, 8080)}


@contextlib.contextmanager
def engine_flows(engine):
    """What one round measures: throughput by its way, and connections by the engine and its way."""
    engine.cli("run", "-d", "--name", "flow-a", "-p", "18080:80", "busybox", "sleep", "100000")
    engine.cli("run", "-d", "--name", "flow-b", "busybox", "sleep", "100000")
    host = Place(getattr(engine, "network_prefix", ()))
    server, client, at = container(engine, "flow-a"), container(engine, "flow-b"), address(engine, "flow-a")
    gateway = engine.cli("inspect", "-f", "{{.NetworkSettings.Gateway}}", "flow-a").strip()
    rates = {"host to container": lambda: host.throughput(at, 80), "container to container": lambda: client.throughput(at, 80),
             "published port": lambda: host.throughput(gateway, 18080)}
    per_second = {engine.name: lambda: host.connections(gateway, 18080)}
    if engine.name != "cais":
        # By 127.0.0.1 the peer goes through its proxy process.
        per_second[f"{engine.name}, by its proxy"] = lambda: host.connections("127.0.0.1", 18080)
    with server.server(80):
        yield rates, per_second
    engine.remove_all()


def measure_flows(engines, report):
    rates, per_second = {}, {}
    with contextlib.ExitStack() as open_flows:
        flows = {"bare": open_flows.enter_context(bare_flows())}
        flows.update((engine.name, open_flows.enter_context(engine_flows(engine))) for engine in engines)
        for _ in range(FLOW_ROUNDS):
            for peer, (ways, connecting) in flows.items():
                for way, measure_once in ways.items():
                    rates.setdefault(way, {}).setdefault(peer, []).append(measure_once())
                for name, measure_once in connecting.items():
                    with awake():
                        per_second.setdefault(name, []).append(measure_once())
    for way, samples in rates.items():
        report(f"GB/s, {way}", samples, "GB/s")
        if "cais" in samples:
            print(f"{'':28} cais of bare: {statistics.median(ours / bare for ours, bare in zip(samples['cais'], samples['bare'])):.3f}")
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
    clients = {}
    for engine in engines:
        engine.cli("network", "create", "bench-names")
        for name in ("asked", "asks"):
            engine.cli("run", "-d", "--name", name, "--network", "bench-names", "busybox", "sleep", "100000")
        clients[engine.name] = container(engine, "asks")
    for _ in range(FLOW_ROUNDS):
        for name, client in clients.items():
            # As fast as it goes, then with few questions under way, for the time of one.
            rate.setdefault(name, []).append(client.names("asked", 64)[0])
            slowest.setdefault(name, []).append(client.names("asked", 4)[1])
    for engine in engines:
        engine.remove_all()
        engine.cli("network", "rm", "bench-names")
    report("names/s", rate, "/s")
    report("names, 99th percentile", slowest)
