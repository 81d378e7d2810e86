"""Running, waiting, listing, stopping."""

import docker
import pytest


def test_run_answers_the_output(client):
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"


def test_run_of_a_failing_command_raises_with_code_and_stderr(client):
    with pytest.raises(docker.errors.ContainerError) as error:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert error.value.exit_status == 3
    assert b"bad" in error.value.stderr


def test_a_missing_command_is_a_client_error(client):
    with pytest.raises(docker.errors.APIError) as error:
        client.containers.run("busybox", ["no-such-program"], remove=True)
    assert error.value.status_code == 400
    assert "executable file not found in $PATH" in error.value.explanation


def test_a_missing_image_is_not_found(client):
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("no-such-image:1", ["true"])


def test_environment_workdir_user_and_hostname(run):
    container = run(["sh", "-c", "echo $GREETING; pwd; id -u; hostname"], environment={"GREETING": "moin"},
                    working_dir="/tmp", user="33", hostname="quay")
    assert container.wait()["StatusCode"] == 0
    assert container.logs() == b"moin\n/tmp\n33\nquay\n"


def test_states_follow_the_life_of_a_container(client, run):
    container = run(["sleep", "1000"], name="py-states")
    container.reload()
    assert container.status == "running"
    assert container.attrs["State"]["Pid"] > 0
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.kill("SIGKILL")
    assert container.wait()["StatusCode"] == 137
    container.reload()
    assert container.status == "exited"
    container.restart()
    container.reload()
    assert container.status == "running"
    container.rename("py-renamed")
    assert client.containers.get("py-renamed").id == container.id
    container.stop(timeout=1)
    assert container.wait()["StatusCode"] in (137, 143)


def test_list_filters(client, run):
    container = run(["sleep", "1000"], labels={"py": "list"})
    assert [c.id for c in client.containers.list(filters={"label": "py=list"})] == [container.id]
    container.kill()
    container.wait()
    assert client.containers.list(filters={"label": "py=list"}) == []
    assert len(client.containers.list(all=True, filters={"label": "py=list", "status": "exited"})) == 1


def test_a_name_is_given_once(client, run):
    run(["sleep", "1000"], name="py-twice")
    with pytest.raises(docker.errors.APIError) as error:
        client.api.create_container("busybox", ["true"], name="py-twice")
    assert error.value.status_code == 409
    assert 'The container name "/py-twice" is already in use by container' in error.value.explanation


def test_published_port_shows_in_inspect(run):
    container = run(["sleep", "1000"], ports={"80/tcp": ("127.0.0.1", 0)})
    container.reload()
    binding = container.ports["80/tcp"][0]
    assert binding["HostIp"] == "127.0.0.1"
    assert int(binding["HostPort"]) > 0


def test_a_volume_keeps_what_a_container_wrote(client):
    client.volumes.create("py-volume")
    try:
        client.containers.run("busybox", ["sh", "-c", "echo kept > /data/file"], volumes={"py-volume": {"bind": "/data"}}, remove=True)
        output = client.containers.run("busybox", ["cat", "/data/file"], volumes={"py-volume": {"bind": "/data"}}, remove=True)
        assert output == b"kept\n"
    finally:
        client.volumes.get("py-volume").remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("py-volume")
