"""Measures of images and registries for bench/run: pull, push, save and load of one large image, against the same registry."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.request

LAYERS = 7
LAYER_MB = int(os.environ.get("BENCH_LAYER_MB", "136"))
SOURCES = ("/usr/lib", "/usr/bin", "/usr/share")
NAME = "bench/large"


def files_below(folders):
    """Regular files in a fixed order."""
    for folder in folders:
        for directory, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                path = os.path.join(directory, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path


def make_archive(directory):
    """A docker archive of one image of LAYERS layers of LAYER_MB each, out of the files of this machine; answers its path and
    its size on disk when unpacked, in bytes."""
    archive = pathlib.Path(directory) / "large.tar"
    limit = LAYER_MB * 1_000_000
    layers, total = [], 0
    source = files_below(SOURCES)
    with tarfile.open(archive, "w") as out:
        for number in range(LAYERS):
            layer = pathlib.Path(directory) / f"layer{number}.tar"
            size = 0
            with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
                while size < limit:
                    path = next(source, None)
                    if path is None:
                        source = files_below(SOURCES)
                        continue
                    length = os.path.getsize(path)
                    if length > limit // 4:
                        continue
                    tar.add(path, arcname=f"layer{number}{path}", recursive=False)
                    size += length
            total += size
            digest = hashlib.file_digest(layer.open("rb"), "sha256").hexdigest()
            layers.append(digest)
            out.add(layer, arcname=f"{digest}/layer.tar")
            layer.unlink()
        config = {"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "config": {"Cmd": ["/bin/true"]},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]}}
        config_bytes = json.dumps(config).encode()
        config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
        manifest = [{"Config": config_name, "RepoTags": [f"{NAME}:latest"], "Layers": [f"{digest}/layer.tar" for digest in layers]}]
        for name, content in ((config_name, config_bytes), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return str(archive), total


class Registry:
    """Debian's docker-registry on a loopback address, in the network of the engine that uses it."""

    def __init__(self, storage, port, prefix=()):
        self.address = f"127.0.0.1:{port}"
        self.log = open(f"{storage}.{port}.log", "w")
        configuration = f"{storage}.{port}.yml"
        pathlib.Path(configuration).write_text(json.dumps({
            "version": "0.1", "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": storage}, "delete": {"enabled": True}},
            "http": {"addr": self.address}}))
        self.process = subprocess.Popen([*prefix, "docker-registry", "serve", configuration], stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@contextlib.contextmanager
def registry(engine, storage, port):
    prefix = getattr(engine, "network_prefix", ())
    server = Registry(storage, port, prefix)
    try:
        probe = [*prefix, "curl", "-fs", "-o", "/dev/null", f"http://{server.address}/v2/"]
        end = time.monotonic() + 30
        while subprocess.run(probe).returncode:
            if time.monotonic() > end:
                raise RuntimeError("docker-registry does not answer")
            time.sleep(0.02)
        yield server
    finally:
        server.stop()


def drop_dirty_pages():
    """What one measure wrote must not be written back during the next."""
    os.sync()


def push_words(engine, address, repository):
    target = f"{address}/{repository}:latest"
    return ["push", "-q", *getattr(engine, "plain_registry_flags", ()), target], target


def curl_and_tar(address, work):
    """The plain tools: every layer's blob through curl and tar, all side by side; answers milliseconds."""
    request = urllib.request.Request(f"http://{address}/v2/{NAME}/manifests/latest",
                                     headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
    layers = json.load(urllib.request.urlopen(request))["layers"]
    start = time.perf_counter()
    children = []
    for number, layer in enumerate(layers):
        target = f"{work}/plain/{number}"
        os.makedirs(target)
        url = f"http://{address}/v2/{NAME}/blobs/{layer['digest']}"
        children.append(subprocess.Popen(["sh", "-c", 'curl -fsS "$0" | tar xzf - -C "$1"', url, target]))
    if any(child.wait() for child in children):
        raise RuntimeError("curl | tar failed")
    spent = (time.perf_counter() - start) * 1000
    shutil.rmtree(f"{work}/plain")
    return spent


def skopeo_round(directory, archive, number, samples):
    """skopeo has no store: it pushes out of the archive, and pulls into a folder without unpacking."""
    storage, folder = f"{directory}/skopeo-{number}", f"{directory}/skopeo-pulled"
    with registry(None, storage, 5960) as server:
        target = f"docker://{server.address}/{NAME}:latest"
        for measure in ("push", "second push"):
            drop_dirty_pages()
            samples[measure].setdefault("skopeo", []).append(
                timed("skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}", target))
        drop_dirty_pages()
        samples["pull"].setdefault("skopeo", []).append(timed("skopeo", "copy", "-q", "--src-tls-verify=false", target, f"dir:{folder}"))
    shutil.rmtree(folder)
    shutil.rmtree(storage)


def timed(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def clean(engine, *names):
    subprocess.run([*engine.cli_words, "rmi", "-f", *names], env=engine.environment, capture_output=True)


def measure(engines, work, report, rounds):
    directory = pathlib.Path(work) / "large"
    directory.mkdir()
    archive, unpacked = make_archive(directory)
    print(f"{'large image':28} {LAYERS} layers, {unpacked / 1e6:.0f} MB in files", flush=True)
    samples = {name: {engine.name: [] for engine in engines} for name in ("load", "save", "push", "second push", "pull")}
    for round_number in range(rounds):
        for engine in engines:
            one_round(engine, directory, archive, round_number, samples)
        if shutil.which("skopeo"):
            skopeo_round(directory, archive, round_number, samples)
    cais = next((engine for engine in engines if engine.name == "cais"), None)
    if cais is not None:
        with registry(None, f"{directory}/cais-{rounds - 1}", 5961) as server:
            size = sum(path.stat().st_size for path in pathlib.Path(f"{directory}/cais-{rounds - 1}").rglob("data"))
            print(f"{'compressed by cais':28} {size / 1e6:.0f} MB", flush=True)
            plain = [curl_and_tar(server.address, work) for _ in range(rounds)]
            samples["pull"]["curl|tar"] = plain
    for name, numbers in samples.items():
        report(name, numbers)
    if cais is not None:
        peak = [line for line in pathlib.Path(f"/proc/{cais.daemon.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
        print(f"{'peak memory of the daemon':28} cais {int(peak[0].split()[1]) / 1024:.1f} MiB RSS", flush=True)
        shared_pulls(cais, f"{directory}/cais-{rounds - 1}")


def one_round(engine, directory, archive, number, samples):
    storage = f"{directory}/{engine.name}-{number}"
    drop_dirty_pages()
    samples["load"][engine.name].append(engine.time("load", "-q", "-i", archive))
    saved = f"{directory}/saved.tar"
    drop_dirty_pages()
    samples["save"][engine.name].append(engine.time("save", "-o", saved, f"{NAME}:latest"))
    os.unlink(saved)
    with registry(engine, storage, 5960) as server:
        words, target = push_words(engine, server.address, NAME)
        engine.cli("tag", f"{NAME}:latest", target)
        drop_dirty_pages()
        samples["push"][engine.name].append(engine.time(*words))
        samples["second push"][engine.name].append(engine.time(*words))
        clean(engine, target, f"{NAME}:latest")
        drop_dirty_pages()
        pull = ["pull", "-q", *getattr(engine, "plain_registry_flags", ()), target]
        samples["pull"][engine.name].append(engine.time(*pull))
        clean(engine, target)
    # Every engine pulls what it pushed; the storage of all rounds but cais's last one is not needed again.
    if engine.name != "cais":
        shutil.rmtree(storage, ignore_errors=True)


def shared_pulls(engine, storage, clients=20):
    """Many clients that want the same image: how often each blob is asked for."""
    with registry(engine, storage, 5962) as server:
        target = f"{server.address}/{NAME}:latest"
        threads = [threading.Thread(target=engine.cli, args=("pull", "-q", target)) for _ in range(clients)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = (time.perf_counter() - start) * 1000
        clean(engine, target)
        server.log.flush()
        lines = pathlib.Path(server.log.name).read_text().splitlines()
        asked = sum("GET" in line and "/blobs/sha256:" in line for line in lines if '"GET' in line)
    print(f"{f'{clients} clients pull':28} cais {spent:.1f} ms, {asked} blobs fetched for {LAYERS} layers and a configuration", flush=True)
