"""Images, versions, disk usage."""

import io
import tarfile

import docker
import pytest


def test_images_show_tags_and_history(client):
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.id.startswith("sha256:")
    assert len(image.history()) == 1


def test_tag_and_untag(client):
    image = client.images.get("busybox")
    assert image.tag("example/py", "two")
    assert client.images.get("example/py:two").id == image.id
    client.images.remove("example/py:two")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("example/py:two")


def test_save_and_load_keep_the_id(client):
    image = client.images.get("busybox")
    archive = b"".join(image.save(named=True))
    assert [loaded.id for loaded in client.images.load(archive)] == [image.id]


def test_import_of_a_root_file_system(client):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("hello.txt")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    client.api.import_image_from_data(buffer.getvalue(), repository="py-import", tag="1")
    image = client.images.get("py-import:1")
    assert len(image.attrs["RootFS"]["Layers"]) == 1
    client.images.remove("py-import:1")


def test_commit_keeps_what_a_container_wrote(client, run):
    container = run("sh -c 'echo written > /written; sleep 1000'")
    while container.exec_run("test -s /written").exit_code:
        pass
    image = container.commit("py-commit", tag="1", author="somebody", message="why", changes="ENV A=b",
                             conf={"Labels": {"by": "py"}})
    assert image.tags == ["py-commit:1"]
    assert image.attrs["Author"] == "somebody"
    assert image.attrs["Comment"] == "why"
    assert image.attrs["Config"]["Labels"] == {"by": "py"}
    newest = image.history()[0]
    assert newest["Comment"] == "why" and newest["Tags"] == ["py-commit:1"] and newest["Size"] > 0
    assert client.containers.run("py-commit:1", "sh -c 'cat /written; echo $A'", remove=True) == b"written\nb\n"
    client.images.remove("py-commit:1")


def test_an_image_in_use_is_not_removed(client, run):
    busybox = client.images.get("busybox")
    container = run("sleep 1000")
    image = container.commit("py-used", tag="1")
    user = client.containers.create("py-used:1", "true")
    with pytest.raises(docker.errors.APIError) as error:
        client.images.remove(image.id)
    assert error.value.status_code == 409
    assert "is using its referenced image" in error.value.explanation or "is being used" in error.value.explanation
    with pytest.raises(docker.errors.APIError) as error:
        client.images.remove(busybox.id, noprune=True)
    assert error.value.status_code == 409
    client.images.remove("py-used:1", force=True)
    assert "py-used:1" not in [tag for image in client.images.list() for tag in image.tags]
    user.remove()


def test_a_name_that_two_images_had_is_the_later_ones(client, run):
    first = run("sleep 1000").commit("py-moved", tag="1")
    second = run("sleep 1000").commit("py-moved", tag="1")
    assert client.images.get("py-moved:1").id == second.id
    assert client.images.get(first.id).tags == []
    dangling = [image.id for image in client.images.list(filters={"dangling": True})]
    assert first.id in dangling and second.id not in dangling
    client.images.remove(first.id)
    client.images.remove("py-moved:1")


def test_export_is_the_whole_root(client, run):
    container = run("sh -c 'echo written > /written; sleep 1000'")
    while container.exec_run("test -s /written").exit_code:
        pass
    archive = io.BytesIO(b"".join(container.export()))
    with tarfile.open(fileobj=archive) as tar:
        assert tar.extractfile("written").read() == b"written\n"
        assert "bin/busybox" in tar.getnames() or "bin/sh" in tar.getnames()


def test_version_info_and_ping(client):
    assert client.ping()
    version = client.version()
    assert version["Os"] == "linux"
    assert tuple(map(int, version["ApiVersion"].split("."))) >= (1, 41)
    info = client.info()
    assert info["OSType"] == "linux"
    assert info["Images"] >= 1


def test_disk_usage_counts_images(client):
    usage = client.df()
    assert any("busybox:latest" in (image["RepoTags"] or []) for image in usage["Images"])
    assert usage["LayersSize"] > 0
