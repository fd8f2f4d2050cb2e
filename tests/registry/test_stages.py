"""Stages and approvals."""

import pytest
from perennial.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from perennial.v1 import registry_pb2 as pb

from tests.registry.conftest import Registry
from tests.registry.test_aliases import stage_moves


async def promote(registry: Registry, model: str, stage: "pb.Stage.ValueType", **who: str) -> pb.ModelVersion:
    """One PromoteModelVersion of 1.0.0."""
    request = pb.PromoteModelVersionRequest(name=model, version="1.0.0", stage=stage)
    answer: pb.PromoteModelVersionResponse = await registry.call("PromoteModelVersion", request, **who)
    return answer.model_version


async def decide(registry: Registry, model: str, *, approved: bool, **who: str) -> pb.ModelVersion:
    """One DecideApproval of 1.0.0."""
    request = pb.DecideApprovalRequest(name=model, version="1.0.0", approved=approved, comment="seen")
    answer: pb.DecideApprovalResponse = await registry.call("DecideApproval", request, **who)
    return answer.model_version


async def test_a_version_goes_through_the_stages(registry: Registry, model: str) -> None:
    """Development → staging → production → archived, and every move is kept. # REG-11 REG-12 REG-14"""
    await registry.register(model)
    for stage in (pb.STAGE_STAGING, pb.STAGE_PRODUCTION, pb.STAGE_ARCHIVED):
        assert (await promote(registry, model, stage)).stage == stage
    assert [move[:2] for move in await stage_moves(registry, model, "1.0.0")] == [(1, 2), (2, 3), (3, 4)]


async def test_a_move_that_skips_is_refused(registry: Registry, model: str) -> None:
    """Development cannot become production by hand, nor can a stage become itself."""
    await registry.register(model)
    with pytest.raises(FailedPrecondition, match="it can become archived, staging"):
        await promote(registry, model, pb.STAGE_PRODUCTION)
    with pytest.raises(FailedPrecondition):
        await promote(registry, model, pb.STAGE_DEVELOPMENT)
    with pytest.raises(InvalidArgument, match="stage"):
        await promote(registry, model, pb.STAGE_UNSPECIFIED)
    with pytest.raises(NotFound):
        await promote(registry, f"{model}-x", pb.STAGE_STAGING)


async def test_own_work_stays_out_of_production(registry: Registry, model: str) -> None:
    """The author may stage a version; someone else takes it to production."""
    await registry.register(model, by="admin")
    await promote(registry, model, pb.STAGE_STAGING)
    with pytest.raises(PermissionDenied, match="author admin"):
        await promote(registry, model, pb.STAGE_PRODUCTION)
    other = await registry.key(f"a-{model}", "approver")
    assert (await promote(registry, model, pb.STAGE_PRODUCTION, token=other)).stage == pb.STAGE_PRODUCTION


async def test_a_promotion_without_approval_is_refused(registry: Registry, model: str) -> None:
    """A version whose model asks for approval stays in staging until someone else approves it. # REG-15"""
    await registry.call("UpsertModel", pb.UpsertModelRequest(name=model, approval_required=True))
    await registry.register(model, by="admin")
    await promote(registry, model, pb.STAGE_STAGING)
    approver = await registry.key(f"a-{model}", "approver")
    with pytest.raises(FailedPrecondition, match="pending"):
        await promote(registry, model, pb.STAGE_PRODUCTION, token=approver)
    with pytest.raises(PermissionDenied, match="other than its author"):
        await decide(registry, model, approved=True)
    assert (await decide(registry, model, approved=False, token=approver)).approval == "refused"
    with pytest.raises(FailedPrecondition, match="refused"):
        await promote(registry, model, pb.STAGE_PRODUCTION, token=approver)
    assert (await decide(registry, model, approved=True, token=approver)).approval == "approved"
    assert (await promote(registry, model, pb.STAGE_PRODUCTION, token=approver)).stage == pb.STAGE_PRODUCTION


async def test_only_an_approver_decides(registry: Registry, model: str) -> None:
    """A data scientist may promote and not approve; a version that is not there is NOT_FOUND."""
    await registry.register(model)
    scientist = await registry.key(f"d-{model}", "data-scientist")
    with pytest.raises(PermissionDenied, match="roles"):
        await decide(registry, model, approved=True, token=scientist)
    with pytest.raises(NotFound):
        await decide(registry, f"{model}-x", approved=True)


async def test_asking_for_approval_later_binds_older_versions(registry: Registry, model: str) -> None:
    """What the model asks for holds for every version that is not yet in production."""
    await registry.register(model)
    changed = (await registry.call("UpsertModel", pb.UpsertModelRequest(name=model, approval_required=True))).model
    assert changed.approval_required
    version = (await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version="1.0.0"))).model_version
    assert version.approval == "pending"


async def test_a_model_is_changed_as_a_whole(registry: Registry, model: str) -> None:
    """UpsertModel sets description, tags and approval; names and texts that are none are refused. # REG-16 REG-18"""
    request = pb.UpsertModelRequest(name=model, description="eta", tags={"team": "ops"})
    made = (await registry.call("UpsertModel", request)).model
    assert (made.description, dict(made.tags), made.approval_required, made.latest_version) == ("eta", {"team": "ops"}, False, "")
    assert (await registry.call("GetModel", pb.GetModelRequest(name=model))).model == made
    for wrong in (pb.UpsertModelRequest(name="A"), pb.UpsertModelRequest(name=model, description="a\x00b")):
        with pytest.raises(InvalidArgument):
            await registry.call("UpsertModel", wrong)
