"""The whole document: one operation a route."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
from perennial.v1 import access_pb2

from services.gateway.domain.accept import EVENT_STREAM, JSON, NDJSON
from services.gateway.domain.problem import CONTENT_TYPE, STATUSES
from services.gateway.domain.route import Route, Routes
from services.gateway.wire.openapi.comments import comments
from services.gateway.wire.openapi.schemas import Schema, Schemas

_PROBLEM: Schema = {
    "type": "object",
    "description": "A failure (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, where, and what would be right."},
        "code": {"type": "string", "enum": [name for name in STATUSES if name != "OK"], "description": "The canonical status."},
        "requestId": {"type": "string", "description": "Names the call in the logs; also in the header x-request-id."},
    },
}
_ABOUT = """REST for every RPC of the platform. Field names are lowerCamelCase; those of the protos are accepted too.
Rows (Frame) are lists of objects; `Accept: application/json; frames=packed` gives proto3 JSON as it is.
Streams are server-sent events, or a JSON text a line with `Accept: application/x-ndjson`.
`x-timeout-s` limits a call, `idempotency-key` fills request_id, `x-request-id` names the call in the logs."""
_DEPTH = 3


def document(routes: Routes) -> bytes:
    """The OpenAPI 3.1 text of all routes."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    used: dict[str, int] = {}
    for route in routes.all:
        name = f"{route.method.containing_service.name}_{route.method.name}"
        used[name] = used.get(name, 0) + 1
        operation = _operation(route, schemas, name if used[name] == 1 else f"{name}_{used[name]}")
        paths.setdefault(route.template.text, {})[route.verb.lower()] = operation
    tags = {route.method.containing_service.name: route.method.containing_service for route in routes.all}
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Perennial", "version": _version(), "description": _ABOUT, "license": _LICENSE},
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": {**dict(sorted(schemas.found.items())), "Problem": _PROBLEM},
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"bearer": []}],
            "tags": [{"name": name, "description": comments().get(tags[name].full_name, "")} for name in sorted(tags)],
        }
    )


_LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def _version() -> str:
    try:
        return version("perennial-mlops")
    except PackageNotFoundError:
        return "0"


def _operation(route: Route, schemas: Schemas, name: str) -> dict[str, Any]:
    method = route.method
    text = comments().get(method.full_name, "")
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [method.containing_service.name],
        "summary": text.split(". ")[0].removesuffix("."),
        "description": text,
        "parameters": [*_in_path(route), *_in_query(route, schemas)],
        "responses": {
            "200": {"description": comments().get(method.output_type.full_name, "Done."), "content": _answers(method, schemas)},
            "default": {
                "description": "A failure.",
                "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
        "x-roles": _roles(method),
    }
    if route.body:
        operation["requestBody"] = _body(route, schemas)
    return operation


def _roles(method: Any) -> list[str]:
    access = method.GetOptions().Extensions[access_pb2.access]
    return ["public"] if access.public else list(access.roles)


def _in_path(route: Route) -> Iterator[dict[str, Any]]:
    for name in route.template.variables:
        field = route.method.input_type.fields_by_name[name]
        about = comments().get(field.full_name, "")
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}, "description": about}


def _in_query(route: Route, schemas: Schemas) -> Iterator[dict[str, Any]]:
    if route.body != "*" and not route.method.client_streaming:
        taken = {*route.template.variables, route.body}
        for field in route.method.input_type.fields:
            if field.name not in taken:
                yield from _parameters(field, "", schemas, _DEPTH)


def _parameters(field: Any, prefix: str, schemas: Schemas, depth: int) -> Iterator[dict[str, Any]]:
    name = f"{prefix}{field.json_name}"
    kind = field.message_type
    if kind is not None and not kind.full_name.startswith("google.protobuf."):
        if depth and not field.is_repeated and not kind.GetOptions().map_entry:
            for inner in kind.fields:
                yield from _parameters(inner, f"{name}.", schemas, depth - 1)
        return
    schema = schemas.field(field)
    yield {"name": name, "in": "query", "schema": schema, "description": schema.pop("description", "")}


def _body(route: Route, schemas: Schemas) -> dict[str, Any]:
    whole = route.method.input_type
    described = schemas.message(whole) if route.body == "*" else schemas.field(whole.fields_by_name[route.body])
    content: dict[str, Any] = {JSON: {"schema": described}}
    if route.method.client_streaming:
        content = {JSON: {"schema": {"type": "array", "items": described}}, NDJSON: {"schema": described}}
    return {"required": True, "content": content}


def _answers(method: Any, schemas: Schemas) -> dict[str, Any]:
    described = schemas.message(method.output_type)
    kinds = (EVENT_STREAM, NDJSON) if method.server_streaming else (JSON,)
    return {kind: {"schema": described} for kind in kinds}
