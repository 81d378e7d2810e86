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
