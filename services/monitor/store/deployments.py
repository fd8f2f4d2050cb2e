"""The deployments watched, with their watermarks and how far each kind of closing has come."""

from dataclasses import dataclass
from typing import Any

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries

from services.monitor.domain.deployments import Deployment


@dataclass(frozen=True, slots=True)
class Watch:
    """A deployment as it is watched now."""

    deployment: Deployment
    prediction_us: int | None
    outcome_us: int | None
    blocks_closed_us: int | None
    panes_checked_us: int | None
    compared_rollout: str
    compared_us: int | None
    policy: dict[str, Any]

    @property
    def both_us(self) -> int | None:
        """The instant that both watermarks have passed."""
        if self.prediction_us is None or self.outcome_us is None:
            return None
        return min(self.prediction_us, self.outcome_us)


def _watch(row: Any) -> Watch:
    return Watch(
        Deployment.from_json(row["facts"]), row["prediction_watermark_us"], row["outcome_watermark_us"], row["blocks_closed_us"],
        row["panes_checked_us"], row["compared_rollout"], row["compared_us"], row["policy"],
    )  # fmt: skip


async def put(tx: Queries, deployment: Deployment, state_version: int) -> bool:
    """Keep what serving says of a deployment unless something newer is known; True when it was news."""
    done = await tx.execute(
        "insert into deployments (name, state_version, facts) values ($1, $2, $3) on conflict (name) do update"
        " set state_version = excluded.state_version, facts = excluded.facts"
        " where deployments.state_version < excluded.state_version",
        deployment.name, state_version, deployment.to_json(),
    )  # fmt: skip
    return done.endswith(" 1")


async def get(tx: Queries, name: str) -> Watch | None:
    """A deployment, or None."""
    row = await tx.fetchrow("select * from deployments where name = $1", name)
    return _watch(row) if row else None


async def every(tx: Queries) -> list[Watch]:
    """All deployments."""
    return [_watch(row) for row in await tx.fetch("select * from deployments order by name")]


async def lock(tx: Transaction, name: str) -> Watch | None:
    """A deployment, locked until the transaction ends."""
    row = await tx.fetchrow("select * from deployments where name = $1 for update", name)
    return _watch(row) if row else None


async def set_watermarks(tx: Transaction, name: str, prediction_us: int | None, outcome_us: int | None) -> None:
    """Move the watermarks."""
    await tx.execute(
        "update deployments set prediction_watermark_us = $2, outcome_watermark_us = $3 where name = $1",
        name,
        prediction_us,
        outcome_us,
    )


async def set_closed(tx: Transaction, name: str, blocks_us: int, policy: dict[str, Any]) -> None:
    """Every block that ends at or before an instant is closed; the policy's state after it."""
    await tx.execute("update deployments set blocks_closed_us = $2, policy = $3 where name = $1", name, blocks_us, policy)


async def set_policy(tx: Transaction, name: str, policy: dict[str, Any]) -> None:
    """The policy's state."""
    await tx.execute("update deployments set policy = $2 where name = $1", name, policy)


async def set_checked(tx: Transaction, name: str, panes_us: int, policy: dict[str, Any]) -> None:
    """Every pane that ends at or before an instant has been looked at."""
    await tx.execute("update deployments set panes_checked_us = $2, policy = $3 where name = $1", name, panes_us, policy)


async def set_compared(tx: Transaction, name: str, rollout: str, compared_us: int) -> None:
    """The rollout's variants were compared up to an instant."""
    await tx.execute("update deployments set compared_rollout = $2, compared_us = $3 where name = $1", name, rollout, compared_us)
