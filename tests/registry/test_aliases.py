"""Aliases and what follows them: compare-and-set, history, who is champion."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from perennial.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from perennial.v1 import registry_pb2 as pb

from tests.registry.conftest import Registry


async def set_alias(
    registry: Registry, model: str, version: str, *, by: str = "admin", alias: str = "champion", **more: Any
) -> pb.Model:
    """One SetAlias."""
    request = pb.SetAliasRequest(name=model, alias=alias, version=version, **more)
    answer: pb.SetAliasResponse = await registry.call("SetAlias", request, by=by)
    return answer.model


async def stage_of(registry: Registry, model: str, version: str) -> str:
    """A version's stage by name."""
    answer = await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version=version))
    return pb.Stage.Name(answer.model_version.stage).removeprefix("STAGE_").lower()


async def stage_moves(registry: Registry, model: str, version: str) -> list[tuple[int, int, str]]:
    """Every move of a version's stage, oldest first."""
    answer = await registry.call("ListStageHistory", pb.ListStageHistoryRequest(name=model, version=version))
    return [(c.from_stage, c.to_stage, c.actor.name) for c in reversed(answer.changes)]


async def test_an_alias_names_one_version_and_is_found_by_it(registry: Registry, model: str) -> None:
    """@alias stands for the version everywhere, and the version knows its aliases."""
    await registry.register(model)
    changed = await set_alias(registry, model, "1.0.0", alias="shadow-1")
    assert dict(changed.aliases) == {"shadow-1": "1.0.0"}
    version = (await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version="@shadow-1"))).model_version
    assert (version.version, list(version.aliases)) == ("1.0.0", ["shadow-1"])
    assert version.stage == pb.STAGE_DEVELOPMENT


async def test_an_alias_moves_by_compare_and_set(registry: Registry, model: str) -> None:
    """Where the alias is not where the caller thinks, the move is ABORTED and nothing changed."""
    await registry.register(model)
    await registry.register(model)
    await set_alias(registry, model, "1.0.0", alias="a")
    for expected in ("", "1.0.1", "nonsense"):
        with pytest.raises(Aborted, match=r"names 1\.0\.0"):
            await set_alias(registry, model, "1.0.1", alias="a", expected=expected)
    assert (await set_alias(registry, model, "1.0.1", alias="a", expected="1.0.0")).aliases["a"] == "1.0.1"
    assert (await set_alias(registry, model, "1.0.0", alias="a", expected="*")).aliases["a"] == "1.0.0"
    assert not (await set_alias(registry, model, "", alias="a", expected="1.0.0")).aliases
    with pytest.raises(NotFound):
        await set_alias(registry, model, "", alias="a", expected="*")


async def test_of_two_racers_one_wins(registry: Registry, model: str) -> None:
    """Eight callers that saw the same alias: one moves it, seven are told."""
    for _ in range(2):
        await registry.register(model)
    racers = [set_alias(registry, model, "1.0.1", alias="a", request_id=f"r{n}") for n in range(8)]
    results = await asyncio.gather(*racers, return_exceptions=True)
    assert sum(isinstance(result, pb.Model) for result in results) == 1
    assert sum(isinstance(result, Aborted) for result in results) == 7


async def test_a_bad_alias_is_refused(registry: Registry, model: str) -> None:
    """Unknown models and versions are NOT_FOUND, names that are none INVALID_ARGUMENT."""
    await registry.register(model)
    with pytest.raises(NotFound):
        await set_alias(registry, "no-such-model", "1.0.0")
    with pytest.raises(NotFound):
        await set_alias(registry, model, "9.9.9")
    with pytest.raises(NotFound):
        await set_alias(registry, model, "@nobody")
    for alias in ("", "Champion", "a b", "../x"):
        with pytest.raises(InvalidArgument):
            await set_alias(registry, model, "1.0.0", alias=alias)


async def test_a_promotion_takes_the_stages_with_it(registry: Registry, model: str) -> None:
    """The new champion enters production, the former one is archived, each with a row of history by who moved it. # REG-12"""
    first = await registry.register(model, header={"first_alias": "champion"})
    assert (first.stage, list(first.aliases)) == (pb.STAGE_PRODUCTION, ["champion"])
    await registry.register(model, header={"first_alias": "champion"}, lineage={"parent": "1.0.0"})
    assert await stage_of(registry, model, "1.0.1") == "development"
    await set_alias(registry, model, "1.0.1", expected="1.0.0", by="service:serving", request_id=f"rollout-{model}")
    assert await stage_of(registry, model, "1.0.1") == "production"
    assert await stage_of(registry, model, "1.0.0") == "archived"
    assert await stage_moves(registry, model, "1.0.0") == [
        (pb.STAGE_DEVELOPMENT, pb.STAGE_PRODUCTION, "service:trainer"),
        (pb.STAGE_PRODUCTION, pb.STAGE_ARCHIVED, "service:serving"),
    ]
    assert await stage_moves(registry, model, "1.0.1") == [(pb.STAGE_DEVELOPMENT, pb.STAGE_PRODUCTION, "service:serving")]


async def test_a_rollback_is_a_move_back(registry: Registry, model: str) -> None:
    """A person moves the alias back: the stages follow, and both histories keep every step. # REG-13"""
    await registry.register(model, header={"first_alias": "champion"})
    await registry.register(model, lineage={"parent": "1.0.0"})
    await set_alias(registry, model, "1.0.1", expected="1.0.0", by="service:serving")
    await set_alias(registry, model, "1.0.0", expected="1.0.1")
    assert await stage_of(registry, model, "1.0.0") == "production"
    assert await stage_of(registry, model, "1.0.1") == "archived"
    answer = await registry.call("ListAliasHistory", pb.ListAliasHistoryRequest(name=model, alias="champion"))
    moves = [(c.from_version, c.to_version, c.actor.name) for c in reversed(answer.changes)]
    assert moves == [("", "1.0.0", "service:trainer"), ("1.0.0", "1.0.1", "service:serving"), ("1.0.1", "1.0.0", "admin")]


async def test_a_repeated_promotion_is_one_promotion(registry: Registry, model: str) -> None:
    """The reconciler's second SetAlias with the rollout's id gives the first answer; another body is ALREADY_EXISTS."""
    await registry.register(model, header={"first_alias": "champion"})
    await registry.register(model)
    promotion = {"expected": "1.0.0", "by": "service:serving", "request_id": f"rollout-{model}"}
    first = await set_alias(registry, model, "1.0.1", **promotion)
    again = await set_alias(registry, model, "1.0.1", **promotion)
    assert first == again
    with pytest.raises(AlreadyExists):
        await set_alias(registry, model, "1.0.0", **promotion)
    history = await registry.call("ListAliasHistory", pb.ListAliasHistoryRequest(name=model))
    assert [change.request_id for change in history.changes] == [f"rollout-{model}", ""]


async def test_setting_what_is_so_changes_nothing(registry: Registry, model: str) -> None:
    """An alias set to what it names leaves no history and no event."""
    await registry.register(model, header={"first_alias": "champion"})
    before = (await registry.call("GetModel", pb.GetModelRequest(name=model))).model
    after = await set_alias(registry, model, "1.0.0", expected="1.0.0")
    assert after == before


async def test_nobody_makes_their_own_work_champion(registry: Registry, model: str) -> None:
    """The author's own version needs someone else to enter production, by alias as by stage; a former champion does not."""
    await registry.register(model, by="admin")
    with pytest.raises(PermissionDenied, match="author"):
        await set_alias(registry, model, "1.0.0")
    await set_alias(registry, model, "1.0.0", by="service:serving")
    await registry.register(model, by="service:trainer")
    await set_alias(registry, model, "1.0.1", expected="1.0.0", by="service:serving")
    await set_alias(registry, model, "1.0.0", expected="1.0.1")
    assert await stage_of(registry, model, "1.0.0") == "production"


async def test_champion_waits_for_the_approval_the_model_asks_for(registry: Registry, model: str) -> None:
    """Without approval the alias does not move, not even as a first alias. # REG-15"""
    await registry.call("UpsertModel", pb.UpsertModelRequest(name=model, approval_required=True))
    with pytest.raises(FailedPrecondition, match="approval"):
        await registry.register(model, header={"first_alias": "champion"})
    version = await registry.register(model, header={"first_alias": "candidate"})
    assert version.approval == "pending"
    with pytest.raises(FailedPrecondition, match="approval"):
        await set_alias(registry, model, version.version, by="service:serving")
    await registry.call("DecideApproval", pb.DecideApprovalRequest(name=model, version=version.version, approved=True))
    assert (await set_alias(registry, model, version.version, by="service:serving")).aliases["champion"] == version.version


async def test_what_was_champion_at_a_time(registry: Registry, model: str) -> None:
    """The history answers for every moment: before it was, while it was, after it was removed."""
    before = datetime.now(UTC)
    await registry.register(model, header={"first_alias": "champion"})
    await registry.register(model)
    between = datetime.now(UTC)
    await set_alias(registry, model, "1.0.1", by="service:serving", expected="1.0.0")
    await set_alias(registry, model, "", expected="1.0.1")

    async def at(time: datetime | None) -> pb.GetVersionAtResponse:
        stamp = Timestamp()
        if time:
            stamp.FromDatetime(time)
        request = pb.GetVersionAtRequest(name=model, alias="champion", time=stamp if time else None)
        answer: pb.GetVersionAtResponse = await registry.call("GetVersionAt", request)
        return answer

    held = await at(between)
    assert held.model_version.version == "1.0.0"
    assert held.since.ToDatetime(UTC) < between < held.until.ToDatetime(UTC)
    second = await at(held.until.ToDatetime(UTC))
    assert (second.model_version.version, second.since) == ("1.0.1", held.until)
    for time in (before, before - timedelta(days=4000), None, datetime.now(UTC) + timedelta(days=1)):
        with pytest.raises(NotFound, match="champion"):
            await at(time)
    with pytest.raises(NotFound, match="no model"):
        await registry.call("GetVersionAt", pb.GetVersionAtRequest(name="nobody", alias="champion"))
