"""Are the files of a size one can read, and is nothing left lying in them?"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("libs", "services", "tests", "bench", "examples", "tools")
GENERATED = ("libs/perennial/v1/", "libs/perennial/client/_sync/")
LONGEST = 300


def sources(*suffixes: str) -> Iterator[Path]:
    """Hand-written files of the repository."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.suffix in suffixes and not name.startswith(GENERATED) and "__pycache__" not in path.parts:
                yield path


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*sources(".py")], ids=named)
def test_a_file_is_short(path: Path) -> None:
    """Nobody reads a file of more than 300 lines."""
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", [*sources(".py")], ids=named)
def test_a_module_says_what_it_answers(path: Path) -> None:
    """Every module with something in it begins with its question."""
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), "no docstring"


_LEFT_LYING = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|HA" + r"CK)\b")


@pytest.mark.parametrize("path", [*sources(".py", ".sql", ".proto")], ids=named)
def test_nothing_is_left_for_later(path: Path) -> None:
    """What is not done is in the list of missing things, not in a comment."""
    assert not _LEFT_LYING.findall(path.read_text())


@pytest.mark.parametrize("path", [*sources(".py")], ids=named)
def test_nothing_that_runs_code_on_load_is_used(path: Path) -> None:
    """F10: no pickle, joblib, shelve or marshal in any role."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not imported & {"pickle", "joblib", "shelve", "marshal", "dill", "cloudpickle"}


ROOMS = {"__init__.py", "__main__.py", "config.py", "service.py", "wire.py", "store.py", "events.py", "agent.py"}
ROOMS |= {"service", "domain", "wire", "store", "events", "agent", "migrations"}
ROOMS |= {"engines", "methods", "launchers", "channels", "algorithms"}
OWN_ROOMS = {
    "monitor": {
        "closing": "windows, blocks and decisions: neither a call nor an event asks for them, time does",
        "log": "the prediction log: a reader with positions of its own",
    },
    "serving": {
        "creation.py": "what a new deployment needs from other services",
        "engine": "everything on Predict's path: routing, models in memory, spool",
        "models.py": "model versions on this machine's disk",
        "rollout": "the controller that takes a version through shadow and traffic",
    },
}
"""Rooms only one service has, each with its reason."""


def test_services_have_the_same_rooms() -> None:
    """A service has the rooms it needs, and no others at its top level."""
    strange = []
    for service in sorted((ROOT / "services").iterdir()):
        if (service / "__main__.py").exists():
            rooms = {entry.name for entry in service.iterdir() if entry.is_dir() or entry.suffix == ".py"} - {"__pycache__"}
            strange += [f"{service.name}/{name}" for name in sorted(rooms - ROOMS - set(OWN_ROOMS.get(service.name, {})))]
    assert strange == []


@pytest.mark.parametrize("path", sorted((ROOT / "services").glob("*/config.py")), ids=named)
def test_a_service_is_called_what_its_folder_is(path: Path) -> None:
    """The folder's name is the service's name everywhere."""
    assert re.search(rf'service(: ClassVar\[str\])? = "{path.parent.name}"', path.read_text())


@pytest.mark.parametrize("path", [one for one in sources(".py") if "/services/" in f"/{named(one)}"], ids=named)
def test_settings_are_read_in_one_place(path: Path) -> None:
    """Only config.py reads the environment."""
    assert path.name in ("config.py", "__main__.py") or not re.search(r"getenv|environ(\[|\.get)", path.read_text())
