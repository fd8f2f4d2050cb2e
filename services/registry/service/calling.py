"""What every call needs to know of its request: who asks, and which page."""

from typing import Any

from grpc.aio import ServicerContext
from perennial.runtime.identity import caller
from perennial.v1 import common_pb2 as common

from services.registry.domain.page import Key, Page
from services.registry.domain.version import Actor

Context = ServicerContext[Any, Any]


def actor() -> Actor:
    """The caller as the histories keep it."""
    who = caller()
    return Actor(who.name, who.kind, tuple(sorted(who.roles)))


def page_of(page: common.Page, *scope: object, kind: type[Key] = int) -> Page:
    """The page asked for; its token is good only for the same list with the same filters."""
    return Page.of(page.size, page.token, scope="\n".join(map(str, scope)), kind=kind)
