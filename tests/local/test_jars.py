"""Kafka's jars: verified, remembered, refused when wrong, and a clear word when they cannot be had."""

import shutil
from pathlib import Path

import pytest
from perennial.local import jars
from perennial.local.home import cache_folder
from perennial.local.part import PartFailed

from tests.local.conftest import Start


@pytest.fixture(scope="module")
def whole() -> Path:
    """The cache of this user, with every jar in it."""
    cache = cache_folder()
    jars.class_path(cache)
    return cache


@pytest.fixture
def cache(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    shutil.copytree(whole / "m2", tmp_path / "m2")
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request goes to a proxy that is not there."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_the_class_path_is_remembered(cache: Path, no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified once is not read again while size and time stay; no network is needed."""
    found = jars.class_path(cache)
    assert sorted(Path(path).name for path in found) == sorted(jars.pins())
    monkeypatch.setattr(jars, "_resolved", lambda _cache: pytest.fail("asked again"))
    assert jars.class_path(cache) == found


@pytest.mark.parametrize("known", [True, False], ids=["after a good start", "at the first"])
def test_a_jar_that_was_changed_is_thrown_away(cache: Path, no_network: None, known: bool) -> None:
    """A wrong jar never reaches the class path: it is removed, and without a network the start is refused."""
    if known:
        jars.class_path(cache)
    victim = next((cache / "m2").rglob("kafka-clients-*.jar"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(PartFailed, match="could not be fetched"):
        jars.class_path(cache)
    assert not victim.exists() or victim.read_bytes() != bytes(data)


def test_a_truncated_jar_is_refused(cache: Path, no_network: None) -> None:
    """As after a full disk."""
    victim = next((cache / "m2").rglob("scala-library-*.jar"))
    victim.write_bytes(victim.read_bytes()[:1000])
    with pytest.raises(PartFailed, match="1 jars"):
        jars.class_path(cache)


async def test_the_first_start_without_a_network_says_what_to_do(
    folder: Path, up: Start, no_network: None, tmp_path: Path
) -> None:
    """``up`` with an empty cache and no way out ends with status 1, names what is missing and the three ways to get it."""
    run = up(folder, "--only", "stack", PERENNIAL_CACHE=str(tmp_path / "empty"))
    assert await run.ended() == 1
    for word in ("kafka_2.13:4.3.1", "Maven Central", "HTTPS_PROXY", "PERENNIAL_CACHE", "PERENNIAL_KAFKA__BOOTSTRAP"):
        assert word in run.output
    assert "Traceback" not in run.output
    assert not list((folder / "run").glob("*.pid"))
