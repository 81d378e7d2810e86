"""One suite, two daemons: DOCKER_HOST names a running one, else a cais daemon of our own is started (CAIS: its binary)."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import docker
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start_daemon(work):
    binary = os.environ.get("CAIS", str(ROOT / "target/x86_64-unknown-linux-gnu/debug/cais"))
    host = f"unix://{work}/s"
    ready, report = os.pipe()
    with open(f"{work}/daemon.log", "w") as log, open(f"{work}/daemon.json", "w") as config:
        config.write("{}")
        config.flush()
        daemon = subprocess.Popen(
            [binary, "daemon", "--host", host, "--data-root", f"{work}/data", "--exec-root", f"{work}/run",
             "--config-file", f"{work}/daemon.json", "--bridge", "caispy", "--bip", "10.214.7.1/24",
             "--firewall-table", "caispy", "--cgroup-parent", "/caispy", "--ephemeral", "--ready-fd", str(report)],
            stdout=log, stderr=log, pass_fds=[report])
    os.close(report)
    if os.read(ready, 1) == b"":
        raise RuntimeError(pathlib.Path(f"{work}/daemon.log").read_text())
    os.close(ready)
    return daemon, host


@pytest.fixture(scope="session")
def client():
    work = tempfile.mkdtemp(prefix="cais-py-")
    daemon = None
    host = os.environ.get("DOCKER_HOST")
    if not host:
        daemon, host = start_daemon(work)
    client = docker.DockerClient(base_url=host, timeout=60)
    archive = subprocess.check_output([str(ROOT / "scripts/base-image"), "busybox"], text=True).strip()
    with open(archive, "rb") as tar:
        client.images.load(tar)
    yield client
    client.close()
    if daemon:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    shutil.rmtree(work)


@pytest.fixture
def run(client):
    """Runs a detached container that is removed after the test."""
    made = []

    def start(*args, **options):
        container = client.containers.run("busybox", *args, detach=True, **options)
        made.append(container)
        return container

    yield start
    for container in made:
        try:
            container.remove(force=True)
        except docker.errors.NotFound:
            pass
