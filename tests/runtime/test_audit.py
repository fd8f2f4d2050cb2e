"""The audit chain names the first row somebody touched."""

import grpc
import pytest
from perennial.runtime import audit, audit_heads
from perennial.v1 import platform_pb2 as pb

from tests.runtime.conftest import Start, Trial

PLATFORM = "perennial.v1.PlatformService"


async def written(start: Start) -> Trial:
    """A service with ten audit rows."""

    async def nothing(request: object) -> str:
        return ""

    trial = await start(nothing)
    for number in range(10):
        async with trial.runtime.postgres.transaction() as transaction:
            await transaction.audit("model.promoted", f"m{number}", stage="production")
    return trial


async def verdict(trial: Trial) -> pb.VerifyAuditResponse:
    call = trial.call("VerifyAudit", service=PLATFORM, answer=pb.VerifyAuditResponse)
    return await call(pb.VerifyAuditRequest(), metadata=trial.admin)  # type: ignore[no-any-return]


async def test_an_untouched_chain_is_intact(start: Start) -> None:
    """Every row follows the one before; the actor is the caller."""
    trial = await written(start)
    answer = await verdict(trial)
    assert (answer.intact, answer.rows, answer.first_bad) == (True, 10, 0)
    row = await trial.runtime.postgres.fetchrow("select actor, detail from audit where n = 1")
    assert dict(row or {}) == {"actor": f"service:{trial.runtime.name}", "detail": '{"stage":"production"}'}


@pytest.mark.parametrize(
    ("tampering", "first_bad"),
    [
        ("update audit set actor = 'somebody else' where n = 4", 4),
        ("update audit set detail = '{}' where n = 1", 1),
        ("delete from audit where n = 6", 6),
        ("delete from audit where n = 1", 1),
        ("delete from audit where n > 7", 8),
        ("update audit set at_us = at_us + 1 where n = 10", 10),
        ("update audit a set subject = b.subject from audit b where (a.n, b.n) in ((3, 5), (5, 3))", 3),
    ],
)  # F11
async def test_tampering_is_found_at_its_first_row(start: Start, tampering: str, first_bad: int) -> None:
    """Edited, deleted, swapped, cut: the first bad row is named."""
    trial = await written(start)
    await trial.runtime.postgres.execute(tampering)
    answer = await verdict(trial)
    assert (answer.intact, answer.first_bad) == (False, first_bad), answer.reason


async def test_a_whole_rewritten_chain_disagrees_with_the_published_heads(start: Start) -> None:
    """Whoever rewrites rows and head in the database cannot rewrite the signed heads on the topic."""
    trial = await written(start)
    postgres, runtime = trial.runtime.postgres, trial.runtime
    head = await postgres.fetchrow("select n, hash from audit_head")
    assert head is not None
    await runtime.bus.publish(audit_heads._event(runtime.bus.source, runtime.key, head["n"], head["hash"].hex()))
    await postgres.execute("update audit set subject = 'rewritten' where n = 5")
    previous = audit.GENESIS
    for row in await postgres.fetch("select * from audit order by n"):
        line = audit.Entry(row["at_us"], row["actor"], row["action"], row["subject"], row["detail"])
        digest = audit.link(previous, row["n"], line)
        await postgres.execute("update audit set previous = $2, hash = $3 where n = $1", row["n"], previous, digest)
        previous = digest
    await postgres.execute("update audit_head set hash = $1", previous)
    answer = await verdict(trial)
    assert (answer.intact, answer.first_bad) == (False, 10)
    assert "published" in answer.reason


async def test_a_transaction_that_fails_leaves_no_row(start: Start) -> None:
    """Audit is part of the change."""
    trial = await written(start)
    with pytest.raises(RuntimeError):
        async with trial.runtime.postgres.transaction() as transaction:
            await transaction.audit("never", "x")
            raise RuntimeError
    assert (await verdict(trial)).rows == 10


async def test_verifying_needs_a_role(start: Start) -> None:
    """The platform's own methods have access options too."""
    trial = await written(start)
    call = trial.call("VerifyAudit", service=PLATFORM, answer=pb.VerifyAuditResponse)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(pb.VerifyAuditRequest())
    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
