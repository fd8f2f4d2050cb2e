"""One battery for every store of objects."""

import uuid
from pathlib import Path

import pytest
from perennial.errors import InvalidArgument, NotFound, Unavailable
from perennial.runtime.objects import FolderObjects, Objects, S3Objects, content_key, open_objects

from tests.runtime.conftest import NAMESPACE, TrialConfig


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, secrets_dir: Path) -> Objects:
    """Each store, made from settings."""
    config = TrialConfig.load(
        namespace=NAMESPACE, storage_type=request.param, storage_path=tmp_path / "objects", secrets_dir=secrets_dir
    )
    made = open_objects(config)
    assert isinstance(made, {"local": FolderObjects, "s3": S3Objects}[request.param])
    return made


@pytest.fixture
def folder() -> str:
    """A prefix nobody else uses."""
    return f"test/{uuid.uuid4().hex}"


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 20_000], ids=["empty", "small", "5 MB"])
async def test_what_is_put_comes_back(objects: Objects, folder: str, tmp_path: Path, data: bytes) -> None:
    """As bytes and as a file, byte for byte."""
    key = content_key(folder, data, ".bin")
    assert not await objects.exists(key)
    await objects.put(key, data)
    assert await objects.exists(key)
    assert await objects.get(key) == data
    await objects.fetch(key, tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == data


async def test_a_file_can_be_put(objects: Objects, folder: str, tmp_path: Path) -> None:
    """Large artifacts never have to be in memory."""
    (tmp_path / "original").write_bytes(b"model" * 1000)
    await objects.put(f"{folder}/file", tmp_path / "original")
    assert await objects.get(f"{folder}/file") == b"model" * 1000


async def test_putting_twice_is_harmless(objects: Objects, folder: str) -> None:
    """Keys are made of content, so the second write changes nothing."""
    for _ in range(2):
        await objects.put(f"{folder}/same", b"same")
    assert await objects.list(folder) == [f"{folder}/same"]


async def test_a_list_has_everything_under_a_prefix_sorted(objects: Objects, folder: str) -> None:
    """Also across folders, and nothing else."""
    for name in ("b/2", "a/1", "b/1", "c"):
        await objects.put(f"{folder}/{name}", b"x")
    await objects.put(f"{folder}x/other", b"x")
    assert await objects.list(f"{folder}/") == [f"{folder}/{name}" for name in ("a/1", "b/1", "b/2", "c")]
    assert await objects.list(f"{folder}/b/") == [f"{folder}/b/1", f"{folder}/b/2"]
    assert await objects.list(f"{folder}/none") == []


async def test_what_is_deleted_is_gone(objects: Objects, folder: str) -> None:
    """Deleting what is not there is no error."""
    await objects.put(f"{folder}/k", b"x")
    for _ in range(2):
        await objects.delete(f"{folder}/k")
    assert not await objects.exists(f"{folder}/k")


async def test_a_missing_object_is_not_found(objects: Objects, folder: str, tmp_path: Path) -> None:
    """Reading says so, and leaves no half file."""
    with pytest.raises(NotFound):
        await objects.get(f"{folder}/missing")
    with pytest.raises(NotFound):
        await objects.fetch(f"{folder}/missing", tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\\b", "a\0b", "ä", "a/", "k" * 1000])
async def test_keys_that_could_be_paths_are_refused(objects: Objects, key: str) -> None:
    """F10: names never become paths outside the store."""
    with pytest.raises(InvalidArgument):
        await objects.put(key, b"x")
    with pytest.raises(InvalidArgument):
        await objects.get(key)


async def test_a_store_that_is_not_there_is_unavailable() -> None:
    """The error names the address, so that somebody can do something about it."""
    dead = S3Objects("http://127.0.0.1:9", "bucket", access_key="a", secret_key="b" * 10, region="us-east-1")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        await dead.get("key")
