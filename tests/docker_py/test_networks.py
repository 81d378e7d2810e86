"""Networks by docker-py: made, listed, joined, left, removed."""

import docker
import pytest
from docker.types import IPAMConfig, IPAMPool


@pytest.fixture
def network(client):
    pool = IPAMPool(subnet="10.216.7.0/24", iprange="10.216.7.128/25", gateway="10.216.7.254",
                    aux_addresses={"router": "10.216.7.253"})
    network = client.networks.create("py-net", driver="bridge", ipam=IPAMConfig(pool_configs=[pool]),
                                     labels={"suite": "py"}, attachable=True)
    yield network
    network.reload()
    for container in network.containers:
        container.remove(force=True)
    network.remove()


def test_a_network_shows_what_was_asked(client, network):
    network.reload()
    assert network.name == "py-net"
    assert network.attrs["Driver"] == "bridge"
    assert network.attrs["Scope"] == "local"
    assert network.attrs["Attachable"] is True
    assert network.attrs["Labels"] == {"suite": "py"}
    assert network.attrs["IPAM"]["Config"] == [{
        "Subnet": "10.216.7.0/24", "IPRange": "10.216.7.128/25", "Gateway": "10.216.7.254",
        "AuxiliaryAddresses": {"router": "10.216.7.253"}}]
    assert [one.id for one in client.networks.list(names=["py-net"])] == [network.id]
    assert [one.id for one in client.networks.list(filters={"label": "suite=py"})] == [network.id]
    assert client.networks.get(network.id[:12]).id == network.id


def test_containers_join_and_leave(client, network, run):
    container = run(["sleep", "1000"])
    network.connect(container, aliases=["alias"], ipv4_address="10.216.7.77")
    container.reload()
    there = container.attrs["NetworkSettings"]["Networks"]["py-net"]
    assert there["IPAddress"] == "10.216.7.77"
    assert there["IPPrefixLen"] == 24
    assert there["Gateway"] == "10.216.7.254"
    assert "alias" in there["Aliases"]
    assert there["IPAMConfig"]["IPv4Address"] == "10.216.7.77"
    network.reload()
    assert [one.id for one in network.containers] == [container.id]
    assert network.attrs["Containers"][container.id]["IPv4Address"] == "10.216.7.77/24"
    code, output = container.exec_run(["ip", "-4", "-o", "addr", "show", "dev", "eth1"])
    assert b"10.216.7.77/24" in output
    with pytest.raises(docker.errors.APIError) as error:
        network.connect(container)
    assert error.value.status_code == 403
    with pytest.raises(docker.errors.APIError) as error:
        network.remove()
    assert error.value.status_code == 403
    assert "has active endpoints" in error.value.explanation
    network.disconnect(container)
    container.reload()
    assert list(container.attrs["NetworkSettings"]["Networks"]) == ["bridge"]
    with pytest.raises(docker.errors.APIError) as error:
        network.disconnect(container)
    assert error.value.status_code == 500


def test_addresses_come_from_the_range(network, run):
    container = run(["sleep", "1000"], network="py-net")
    container.reload()
    assert container.attrs["NetworkSettings"]["Networks"]["py-net"]["IPAddress"].startswith("10.216.7.1")


def test_what_is_wrong_has_a_status(client, network):
    for call, status in [
        (lambda: client.networks.get("no-such-network"), 404),
        (lambda: client.networks.create("py-net", check_duplicate=True), 409),
        (lambda: client.networks.create("bridge"), 403),
        (lambda: client.networks.get("bridge").remove(), 403),
        (lambda: client.networks.create("py-overlap", ipam=IPAMConfig(
            pool_configs=[IPAMPool(subnet="10.216.7.0/25")])), 403),
        (lambda: client.networks.get("py-net").connect("no-such-container"), 404),
    ]:
        with pytest.raises(docker.errors.APIError) as error:
            call()
        assert error.value.status_code == status


def test_prune_takes_what_nobody_uses(client, network, run):
    run(["sleep", "1000"], network="py-net")
    client.networks.create("py-unused", labels={"prune": "me"})
    assert client.networks.prune(filters={"label": "prune=me"})["NetworksDeleted"] == ["py-unused"]
    assert client.networks.list(names=["py-net"])


def test_a_container_is_taken_off_by_force(client, network, run):
    container = run(["sleep", "1000"], network="py-net")
    network.disconnect(container, force=True)
    container.reload()
    assert container.attrs["NetworkSettings"]["Networks"] == {}
    _, output = container.exec_run(["ip", "-o", "link"])
    assert b"eth0" not in output
    network.connect(container, ipv4_address="10.216.7.78")
    container.stop(timeout=0)
    network.disconnect(container, force=True)
    container.start()
    container.reload()
    assert "py-net" not in container.attrs["NetworkSettings"]["Networks"]


def test_peers_find_each_other_by_alias_while_connected(network, run):
    server = run(["sleep", "1000"])
    client = run(["sleep", "1000"], network="py-net")
    network.connect(server, aliases=["store"], ipv4_address="10.216.7.79")
    code, output = client.exec_run(["nslookup", "store"])
    assert (code, b"10.216.7.79" in output) == (0, True), output
    network.disconnect(server)
    code, output = client.exec_run(["nslookup", "store"])
    assert code != 0, output


def test_filters_choose(client, network):
    def names(**filters):
        return {one.name for one in client.networks.list(filters=filters)}

    assert names(type="builtin") == {"bridge", "host", "none"}
    assert "py-net" in names(type="custom")
    assert "py-net" in names(driver="bridge") and "host" not in names(driver="bridge")
    assert names(id=network.id) == {"py-net"}
    assert names(name="y-ne") == {"py-net"}
    assert names(label="suite=other") == set()
    assert names(scope="local") >= {"bridge", "py-net"} and names(scope="swarm") == set()
    assert "py-net" in names(dangling="true") and "bridge" not in names(dangling="true")
    assert "bridge" in names(dangling="false") and "py-net" not in names(dangling="false")
    with pytest.raises(docker.errors.APIError) as error:
        client.networks.list(filters={"no-such": "filter"})
    assert error.value.status_code == 400
