"""Does every RPC say who may call it, where it is on REST, and what it is?"""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from perennial.runtime.access import policy_of

PROTOS = Path(__file__).parents[2] / "protos" / "perennial" / "v1"


def _methods() -> list[Any]:
    found = []
    for path in sorted(PROTOS.glob("*.proto")):
        module = importlib.import_module(f"perennial.v1.{path.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            found += list(service.methods)
    return found


METHODS = _methods()


def _name(method: Any) -> str:
    return f"{method.containing_service.name}.{method.name}"


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_every_rpc_says_who_may_call_it(method: Any) -> None:
    """No policy would keep its service from starting."""
    policy = policy_of(method)
    assert policy.public or policy.roles


def _route(method: Any) -> tuple[str, str]:
    options = method.GetOptions()
    assert options.HasExtension(annotations_pb2.http), "no google.api.http route"
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return verb, getattr(rule, verb)


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_every_rpc_has_a_route(method: Any) -> None:
    """Under /api/v1; its path's fields are fields of the request; a GET has no request id."""
    verb, path = _route(method)
    assert path.startswith("/api/v1/")
    fields = method.input_type.fields_by_name
    for place in re.findall(r"{([a-z_.]+)", path):
        message = method.input_type
        for part in place.split("."):
            assert part in message.fields_by_name, f"{part} is no field of {message.name}"
            message = message.fields_by_name[part].message_type
    assert verb != "get" or "request_id" not in fields


def test_no_two_rpcs_have_the_same_route() -> None:
    """A path with its verb means one thing."""
    seen: dict[tuple[str, str], str] = {}
    for method in METHODS:
        verb, path = _route(method)
        key = verb, re.sub(r"{[^}]*}", "{}", path)
        assert key not in seen, f"{_name(method)} and {seen[key]} are both {verb} {path}"
        seen[key] = _name(method)


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_every_rpc_has_its_own_messages(method: Any) -> None:
    """XxxRequest and XxxResponse, so that each can grow alone."""
    assert (method.input_type.name, method.output_type.name) == (f"{method.name}Request", f"{method.name}Response")


@pytest.mark.parametrize("path", sorted(PROTOS.glob("*.proto")), ids=lambda path: path.name)
def test_everything_is_explained(path: Path) -> None:
    """A comment stands before every service, RPC, message, enum and field."""
    before, bare = "", []
    for line in path.read_text().splitlines():
        text = line.strip()
        declares = re.match(r"(service|rpc|message|enum)\s+\w+|(repeated |optional )?(map<.*>|[\w.]+) \w+ = \d+", text)
        if declares and not before.startswith("//") and "//" not in text and not text.startswith("reserved"):
            bare.append(text)
        if text:
            before = text
    assert bare == []


@pytest.mark.parametrize("path", sorted(PROTOS.glob("*.proto")), ids=lambda path: path.name)
def test_every_rpc_names_its_errors(path: Path) -> None:
    """The comment of an RPC says which errors a caller may see."""
    text = path.read_text()
    found = re.finditer(r"((?:^\s*//.*\n)+)\s*rpc (\w+)", text, re.MULTILINE)
    silent = [match[2] for match in found if "Errors:" not in match[1]]
    assert silent == []
