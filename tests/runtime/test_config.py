"""Settings come in one order, and all that is wrong with them is said at once."""

from pathlib import Path

import pytest
from perennial.runtime import secrets
from perennial.runtime.config import ServiceConfig, setting


class OvenConfig(ServiceConfig):
    """A service with settings of its own."""

    service = "oven"
    needs_database = False
    degrees: int = setting(180, ge=0, also=("OVEN_DEGREES",))
    cakes: list[str] = setting([])


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty environment with secrets."""
    import os

    for name in list(os.environ):
        if name.startswith("PERENNIAL_") or name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT"):
            monkeypatch.delenv(name)
    secrets.ensure(tmp_path / "secrets")
    monkeypatch.setenv("PERENNIAL_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("PERENNIAL_ENV_FILE", str(tmp_path / "env"))
    return tmp_path


def test_the_order_of_the_sources(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoped name, common name, plain name, then the same in the file, then the default."""
    assert OvenConfig.load().degrees == 180
    for place, name, value in [
        ("file", "OVEN_DEGREES", 1),
        ("file", "PERENNIAL_DEGREES", 2),
        ("file", "PERENNIAL_OVEN__DEGREES", 3),
        ("environment", "OVEN_DEGREES", 4),
        ("environment", "PERENNIAL_DEGREES", 5),
        ("environment", "PERENNIAL_OVEN__DEGREES", 6),
    ]:
        if place == "file":
            with (clean / "env").open("a") as file:
                file.write(f"{name}={value}\n")
        else:
            monkeypatch.setenv(name, str(value))
        assert OvenConfig.load().degrees == value, name


def test_names_with_two_underscores_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """PERENNIAL_KAFKA__BOOTSTRAP and PERENNIAL_KAFKA_BOOTSTRAP are one setting."""
    monkeypatch.setenv("PERENNIAL_KAFKA__BOOTSTRAP", "broker:1")
    assert OvenConfig.load().kafka_bootstrap == "broker:1"
    monkeypatch.setenv("PERENNIAL_OVEN__KAFKA__BOOTSTRAP", "broker:2")
    assert OvenConfig.load().kafka_bootstrap == "broker:2"


def test_lists_are_given_by_comma_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the source documents' ALERT_CHANNELS=slack,email."""
    for text in ("plum, apple", '["plum", "apple"]'):
        monkeypatch.setenv("PERENNIAL_CAKES", text)
        assert OvenConfig.load().cakes == ["plum", "apple"]


def test_everything_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, each setting with its variables, and no secret in the text."""
    monkeypatch.setenv("PERENNIAL_OVEN__DEGREES", "-5")
    monkeypatch.setenv("PERENNIAL_NAMESPACE", "No Good")
    monkeypatch.setenv("PERENNIAL_OVEN__DEGRESE", "200")
    monkeypatch.setenv("PERENNIAL_PORT", "swordfish")
    monkeypatch.setenv("PERENNIAL_CAKES", "[not json")
    with pytest.raises(SystemExit) as end:
        OvenConfig.load()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "oven cannot start; 5 settings" in said
    for name in ("PERENNIAL_OVEN__DEGREES", "PERENNIAL_NAMESPACE", "PERENNIAL_PORT", "PERENNIAL_CAKES", "did you mean DEGREES?"):
        assert name in said
    assert "swordfish" not in said


def test_missing_secrets_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no default secret: without them a service does not start."""
    monkeypatch.setenv("PERENNIAL_SECRETS_DIR", str(tmp_path / "nowhere"))

    class NeedsAll(ServiceConfig):
        service = "all"

    with pytest.raises(SystemExit) as end:
        NeedsAll.load()
    said = capsys.readouterr().err
    assert end.value.code == 2
    for name in (
        "PERENNIAL_ALL__DATABASE_URL / PERENNIAL_DATABASE_URL / DATABASE_URL",
        "PERENNIAL_ADMIN_TOKEN",
        "service-key is not there",
    ):
        assert name in said


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settings object can be printed."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:swordfish@h/d")
    config = OvenConfig.load()
    assert "swordfish" not in repr(config)
    assert "swordfish" not in str(config)


def test_the_namespace_is_part_of_every_outside_name() -> None:
    """Two platforms can share all servers."""
    config = OvenConfig.load(namespace="demo-1")
    assert config.schema_name == "demo_1_oven"
    assert config.prefixed("perennial.models") == "demo-1.perennial.models"
    assert config.bucket_name == "demo-1-ml-models"
    assert config.redis_key("k") == "demo-1:k"
    assert OvenConfig.load().schema_name == "oven"


def test_made_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    """Generated once, readable by the owner, different every time."""
    first = secrets.ensure(tmp_path / "a")
    assert secrets.ensure(tmp_path / "a") == first != secrets.ensure(tmp_path / "b")
    assert [(tmp_path / "a" / name).stat().st_mode & 0o777 for name in secrets.NAMES] == [0o600, 0o600]
