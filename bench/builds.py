"""Measures of builds for bench/run: steps without and with a cache, large layers, stages side by side, a large context."""

import os
import pathlib
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PLUGIN = "target/trixie/docker-buildx/usr/libexec/docker/cli-plugins/docker-buildx"
COPY_MB = int(os.environ.get("BENCH_COPY_MB", "800"))
COPY_FILES = int(os.environ.get("BENCH_COPY_FILES", "22700"))
CONTEXT_MB = int(os.environ.get("BENCH_CONTEXT_MB", "1000"))
STEPS = 10
LAYERS = 6
SPIN = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo $i >/done"


class Builder:
    """One way to build on an engine."""

    def __init__(self, name, words, environment):
        self.name, self.words, self.environment = name, words, environment

    def build(self, context, *flags):
        """Milliseconds of a build."""
        begin = time.perf_counter()
        result = subprocess.run([*self.words, "build", *flags, "-t", "bench-build", context], env=self.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode:
            raise RuntimeError(f"{self.name}: {result.stdout[-800:]}")
        return (time.perf_counter() - begin) * 1000


def builders(engines):
    found = []
    for engine in engines:
        if engine.name != "docker":
            found.append(Builder(engine.name, engine.cli_words, engine.environment))
            continue
        found.append(Builder("classic", engine.cli_words, {**engine.environment, "DOCKER_BUILDKIT": "0"}))
        plugins = pathlib.Path(engine.environment["DOCKER_CONFIG"]) / "cli-plugins"
        if (ROOT / PLUGIN).exists():
            plugins.mkdir(parents=True, exist_ok=True)
            (plugins / "docker-buildx").symlink_to(ROOT / PLUGIN)
        environment = {**engine.environment, "DOCKER_BUILDKIT": "1"}
        if subprocess.run([*engine.cli_words, "buildx", "version"], env=environment, capture_output=True).returncode == 0:
            found.append(Builder("buildx", engine.cli_words, environment))
    return found


def context(work, name, dockerfile):
    directory = pathlib.Path(work) / f"build-{name}"
    directory.mkdir()
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


def fill(directory, megabytes, files):
    """Files of random bytes, below a hundred to a directory."""
    size = megabytes * 1_000_000 // files
    for number in range(files):
        path = directory / str(number // 100) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def sampled(peers, rounds, action):
    samples = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            # What one peer wrote must not be written back during the turn of the next.
            os.sync()
            samples[peer.name].append(action(peer))
    return samples


def steps(peers, work, report, rounds):
    directory = context(work, "steps", "FROM busybox\n" + "".join(f"RUN echo {number}\n" for number in range(STEPS)))
    report(f"build, {STEPS} x RUN echo", sampled(peers, rounds, lambda peer: peer.build(directory, "--no-cache")))
    for peer in peers:
        peer.build(directory)
    report(f"build, {STEPS} x RUN cached", sampled(peers, rounds, lambda peer: peer.build(directory)))


def layers(peers, work, report, rounds):
    copies = "".join(f"COPY {number} /{number}/\n" for number in range(LAYERS))
    directory = context(work, "layers", f"FROM busybox\n{copies}")
    for number in range(LAYERS):
        fill(directory / str(number), COPY_MB // LAYERS, COPY_FILES // LAYERS)
    name = f"build, COPY {COPY_MB} MB {COPY_FILES} files"
    report(f"{name}, first", sampled(peers, 1, lambda peer: peer.build(directory, "--no-cache")))
    report(f"{name}, again", sampled(peers, rounds, lambda peer: peer.build(directory, "--no-cache")))
    shutil.rmtree(directory)


def stages(peers, work, report, rounds):
    one = context(work, "one-stage", f"FROM busybox\nRUN {SPIN}\n")
    two = context(work, "two-stages", f"FROM busybox AS first\nRUN {SPIN}\nFROM busybox\nRUN {SPIN}\nCOPY --from=first /done /first\n")
    alone = sampled(peers, rounds, lambda peer: peer.build(one, "--no-cache"))
    both = sampled(peers, rounds, lambda peer: peer.build(two, "--no-cache"))
    report("build, one stage", alone)
    report("build, two such stages", both)
    gain = {name: [2 * least / took for least, took in zip(alone[name], both[name])] for name in both}
    report("two stages, serial / real", gain, "x")


def one_change(peers, work, report, rounds):
    directory = context(work, "change", "FROM busybox\nCOPY changed /\n")
    fill(directory / "large", CONTEXT_MB, 1000)
    changed = directory / "changed"

    def change(peer):
        changed.write_text(f"{peer.name} {time.time()}")
        return peer.build(directory)

    for peer in peers:
        change(peer)
    report(f"build, 1 change in {CONTEXT_MB} MB", sampled(peers, rounds, change))
    shutil.rmtree(directory)


def measure(engines, work, report, rounds):
    peers = builders(engines)
    for part in (steps, layers, stages, one_change):
        part(peers, work, report, rounds)
    for peer in peers:
        subprocess.run([*peer.words, "rmi", "-f", "bench-build"], env=peer.environment, capture_output=True)
