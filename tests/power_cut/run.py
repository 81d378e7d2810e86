"""Cuts the power of the disk under a daemon at random moments while images are loaded, imported, pulled and removed, then starts
a daemon on what the disk has: every image it lists must be whole, and what was cut can be had again.

usage: run.py CAIS ARCHIVE ROUNDS"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


PULLED = 4


class Registry:
    """A registry of ours on a disk that keeps its power, with images of two layers each, which share one."""

    def __init__(self, cais, work):
        self.process = subprocess.Popen([cais, "registry", "serve", f"--root={work}/registry", "--listen=127.0.0.1:0",
                                         f"--address-file={work}/address", "--log-level=warn"])
        address = pathlib.Path(f"{work}/address")
        end = time.monotonic() + 60
        while not (address.exists() and address.read_text().endswith("\n")):
            if time.monotonic() > end:
                raise SystemExit("the registry does not start")
            time.sleep(0.02)
        self.names = [f"{address.read_text().strip()}/noise:{number}" for number in range(PULLED)]

    def fill(self, cais, work, archive):
        os.makedirs(f"{work}/run")
        pathlib.Path(f"{work}/daemon.json").write_text("{}")
        daemon = Daemon(cais, work, f"{work}/data")
        try:
            daemon.run("load", "-q", "-i", archive)
            for name in self.names:
                os.makedirs(f"{work}/context", exist_ok=True)
                pathlib.Path(f"{work}/context/noise").write_bytes(os.urandom(1_000_000))
                pathlib.Path(f"{work}/context/Dockerfile").write_text("FROM busybox\nCOPY noise /\n")
                for words in (["build", "-q", "-t", name, f"{work}/context"], ["push", "-q", name]):
                    done = daemon.run(*words)
                    if done.returncode:
                        raise SystemExit(f"{words}: {done.stderr}")
        finally:
            daemon.end(signal.SIGTERM)

    def end(self):
        self.process.terminate()
        self.process.wait()


class Daemon:
    def __init__(self, cais, work, data):
        self.cais, self.data = cais, data
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{work}/s", "DOCKER_CONFIG": f"{work}/config"}
        self.log = open(f"{work}/log", "a")
        self.process = subprocess.Popen(
            [cais, "daemon", f"--host=unix://{work}/s", f"--data-root={data}", f"--exec-root={work}/run",
             f"--config-file={work}/daemon.json", "--bridge=caiscut", "--bip=10.214.202.1/24", "--firewall-table=caiscut",
             "--cgroup-parent=/caiscut", "--ephemeral"], stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while subprocess.run([cais, "version"], env=self.environment, capture_output=True).returncode:
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"the daemon does not start: {pathlib.Path(self.log.name).read_text()[-2000:]}")
            time.sleep(0.02)

    def run(self, *words):
        return subprocess.run([self.cais, *words], env=self.environment, capture_output=True, text=True)

    def start(self, *words):
        return subprocess.Popen([self.cais, *words], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()
        self.log.close()


def call(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def work_until_cut(daemon, archive, noise, names, seconds):
    """Loads, imports, pulls and removes side by side; answers the commands."""
    daemon.run("load", "-q", "-i", archive)
    children = []
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        children.append(daemon.start("import", noise, f"noise:{number}"))
        children.append(daemon.start("rmi", f"noise:{number - 2}"))
        children.append(daemon.start("pull", "-q", names[number % PULLED]))
        children.append(daemon.start("rmi", names[(number + 2) % PULLED]))
        time.sleep(0.1)
    return children


def check(daemon, archive, names, saved):
    """Every image that is listed verifies, and work goes on. Answers how many there were, and how many of them were pulled."""
    images = set(daemon.run("images", "-aq", "--no-trunc").stdout.split())
    for image in images:
        save = daemon.run("save", "-o", saved, image)
        if save.returncode:
            raise SystemExit(f"{image} is listed and not whole: {save.stderr}")
    left = [name for name in os.listdir(f"{daemon.data}/layers") if name.startswith("tmp-")]
    if left:
        raise SystemExit(f"half layers are left: {left}")
    pulled = sum(1 for name in names if daemon.run("image", "inspect", name).returncode == 0)
    for words in (["load", "-q", "-i", archive], *(["pull", "-q", name] for name in names),
                  *(["save", "-o", saved, name] for name in names), ["system", "check"]):
        again = daemon.run(*words)
        if again.returncode:
            raise SystemExit(f"{' '.join(words)} after the cut: {again.stdout}{again.stderr}")
    return len(images), pulled


def one_round(cais, archive, names, seed):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="cais-cut-") as work:
        for name in ("fuse", "mnt", "run"):
            os.mkdir(f"{work}/{name}")
        pathlib.Path(f"{work}/daemon.json").write_text("{}")
        noise = f"{work}/noise.tar"
        pathlib.Path(f"{work}/noise").write_bytes(chance.randbytes(2_000_000))
        call("tar", "-cf", noise, "-C", work, "noise")
        disk = f"{work}/disk"
        with open(disk, "wb") as file:
            file.truncate(256 << 20)
        call("mkfs.ext4", "-q", "-F", disk)
        server = subprocess.Popen([sys.executable, HERE / "disk.py", f"{work}/fuse", disk, str(seed)], stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        loop = call("losetup", "--show", "-f", f"{work}/fuse/disk")
        call("mount", loop, f"{work}/mnt")
        daemon = Daemon(cais, work, f"{work}/mnt/data")
        seconds = chance.uniform(0, chance.choice([3, 12, 20]))
        children = work_until_cut(daemon, archive, noise, names, seconds)
        server.send_signal(signal.SIGUSR1)
        lost = int(server.stdout.readline().split()[1])
        daemon.end(signal.SIGKILL)
        for child in children:
            child.wait()
        call("umount", f"{work}/mnt")
        call("losetup", "-d", loop)
        call("umount", "-l", f"{work}/fuse")
        server.wait()
        call("mount", "-o", "loop", disk, f"{work}/mnt")
        daemon = Daemon(cais, work, f"{work}/mnt/data")
        try:
            found = check(daemon, archive, names, f"{work}/saved.tar")
        finally:
            daemon.end(signal.SIGTERM)
            call("umount", f"{work}/mnt")
        return seconds, lost, found


def main(cais, archive, rounds):
    with tempfile.TemporaryDirectory(prefix="cais-cut-registry-") as work:
        registry = Registry(cais, work)
        try:
            registry.fill(cais, work, archive)
            for number in range(int(rounds)):
                seconds, lost, (found, pulled) = one_round(cais, archive, registry.names, number)
                print(f"cut {number} after {seconds:.1f} s: {lost} blocks were not flushed, {found} images are whole, {pulled} of them pulled", flush=True)
        finally:
            registry.end()


main(*sys.argv[1:])
