"""Which method of which service answers a request?"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.gateway.domain.template import Template, parts_of


@dataclass(frozen=True, slots=True)
class Route:
    """One binding of one RPC."""

    verb: str
    """GET, POST, PUT, PATCH or DELETE."""
    template: Template
    body: str
    """The field the body fills; ``*`` means the whole message, empty means there is none."""
    method: Any
    """The RPC's descriptor."""
    peer: str
    """The service that answers; empty means the one the field ``service`` names."""

    @property
    def path(self) -> str:
        """Service and method as gRPC names them."""
        return f"{self.method.containing_service.full_name}/{self.method.name}"


class Routes:
    """All routes; literal paths win over those with variables."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.all = sorted(routes, key=lambda route: (route.template.rank, route.template.text, route.verb))
        self._by_length: dict[int, list[Route]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for route in self.all:
            if (route.verb, route.template.text) in seen:
                raise ValueError(f"{route.verb} {route.template.text} is the route of two methods")
            seen.add((route.verb, route.template.text))
            self._by_length[len(route.template.segments)].append(route)

    def find(self, verb: str, raw_path: str) -> tuple[Route | None, dict[str, str], list[str]]:
        """The route, its variables, and every verb the path has; no route and no verb when the path has none."""
        parts, verbs = parts_of(raw_path), []
        for route in self._by_length.get(len(parts), ()):
            values = route.template.match(parts)
            if values is None:
                continue
            if route.verb == verb:
                return route, values, [verb]
            verbs.append(route.verb)
        return None, {}, sorted(set(verbs))
