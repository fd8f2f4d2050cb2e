"""Which RPCs are there, at which routes? Read from the descriptors of every service."""

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from google.api import annotations_pb2

from services.gateway.domain.route import Route, Routes
from services.gateway.domain.template import Template

SERVICES = ("registry", "feature", "trainer", "serving", "monitor", "explainer")
"""The services that have RPCs of their own; one whose proto does not exist yet is left out."""
PLATFORM = "platform"
"""RPCs every service has: the field ``service`` of the request names who answers."""


def service_descriptors() -> dict[str, Any]:
    """Service name → descriptor of its RPC service; the platform's under ``platform``."""
    found = {}
    for name in (*SERVICES, PLATFORM):
        module_name = f"perennial.v1.{name}_pb2"
        if find_spec(module_name) is not None:
            services = importlib.import_module(module_name).DESCRIPTOR.services_by_name
            found[name] = services[f"{name.capitalize()}Service"]
    return found


def routes() -> Routes:
    """Every route of every RPC. ValueError when an RPC has none, or two RPCs share one."""
    return Routes(
        route for name, service in service_descriptors().items() for method in service.methods for route in _routes(name, method)
    )


def _routes(name: str, method: Any) -> Iterator[Route]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        raise ValueError(f"{method.full_name} has no google.api.http route")
    rule = options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        if verb == "custom" or verb is None:
            raise ValueError(f"{method.full_name}: a route is get, put, post, patch or delete")
        template = Template.parsed(getattr(binding, verb))
        if unknown := [v for v in template.variables if v not in method.input_type.fields_by_name]:
            raise ValueError(f"{method.full_name}: {template.text} names {unknown[0]}, which its request has not")
        yield Route(verb.upper(), template, binding.body, method, "" if name == PLATFORM else name)
