"""Decisions of the policy, cuts of the log that they rest on, and incidents."""

from collections.abc import Mapping
from typing import Any

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries


async def add(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Keep a decision."""
    await tx.execute(
        "insert into decisions (decision_id, deployment, time_us, requested, trigger, reason, figures, state, request,"
        " correlation_id, causation_id) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        row["decision_id"], row["deployment"], row["time_us"], row["requested"], row["trigger"], row["reason"], row["figures"],
        row["state"], row["request"], row["correlation_id"], row["causation_id"],
    )  # fmt: skip


async def get(tx: Queries, decision_id: str) -> Any:
    """A decision, or None."""
    return await tx.fetchrow("select * from decisions where decision_id = $1", decision_id)


async def move(tx: Transaction, decision_id: str, state: str, version: str = "") -> bool:
    """Move a decision on; an ended one stays as it is. True when it moved."""
    done = await tx.execute(
        "update decisions set state = $2, version = case when $3 = '' then version else $3 end where decision_id = $1"
        " and state in ('pending', 'released', 'succeeded') and (state <> 'succeeded' or $2 = 'succeeded')",
        decision_id, state, version,
    )  # fmt: skip
    return done.endswith(" 1")


async def under_way(tx: Queries, deployment: str) -> list[Any]:
    """Requests whose job has not ended, oldest first."""
    return await tx.fetch(
        "select * from decisions where deployment = $1 and requested and state in ('pending', 'released') order by n", deployment
    )


async def page(tx: Queries, deployment: str, before: int, size: int, *, requested_only: bool) -> list[Any]:
    """Decisions, newest first, older than number ``before``."""
    return await tx.fetch(
        "select * from decisions where deployment = $1 and n < $2 and (requested or not $4) order by n desc limit $3",
        deployment, before, size, requested_only,
    )  # fmt: skip


# Cuts.


async def cut(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Keep a cut, whose manifest is still to be written."""
    await tx.execute(
        "insert into snapshots (snapshot_id, deployment, decision_id, from_us, cut, request_id) values ($1, $2, $3, $4, $5, $6)",
        row["snapshot_id"], row["deployment"], row["decision_id"], row["from_us"], row["cut"], row["request_id"],
    )  # fmt: skip


async def requested_cut(tx: Queries, deployment: str, request_id: str) -> str | None:
    """The cut that was taken for a request, if it was."""
    found: str | None = await tx.fetchval(
        "select snapshot_id from snapshots where deployment = $1 and request_id = $2", deployment, request_id
    )
    return found


async def open_cuts(tx: Queries) -> list[Any]:
    """Cuts whose manifest is not written yet, oldest first."""
    return await tx.fetch("select * from snapshots where manifest_key = '' order by created_at")


async def snapshot(tx: Queries, snapshot_id: str) -> Any:
    """A cut, or None."""
    return await tx.fetchrow("select * from snapshots where snapshot_id = $1", snapshot_id)


async def written(tx: Transaction, snapshot_id: str, key: str, sha256: str, rows: int, outcomes: int) -> bool:
    """The manifest of a cut is written; False when somebody else was faster."""
    done = await tx.execute(
        "update snapshots set manifest_key = $2, manifest_sha256 = $3, rows = $4, outcomes = $5"
        " where snapshot_id = $1 and manifest_key = ''",
        snapshot_id, key, sha256, rows, outcomes,
    )  # fmt: skip
    return done.endswith(" 1")


# Incidents.


async def open_incidents(tx: Queries, deployment: str) -> list[Any]:
    """Incidents that are not closed, oldest first."""
    return await tx.fetch("select * from incidents where deployment = $1 and state <> 'closed' order by n", deployment)


async def add_incident(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Open an incident."""
    await tx.execute(
        "insert into incidents (incident_id, deployment, version, column_name, kind, factor, since_us, state, detail, seen_us)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        row["incident_id"], row["deployment"], row["version"], row["column_name"], row["kind"], row["factor"], row["since_us"],
        row["state"], row["detail"], row["seen_us"],
    )  # fmt: skip


async def set_incident(tx: Transaction, incident_id: str, state: str, seen_us: int, factor: float, detail: str) -> None:
    """Move an incident, or note that it was seen again."""
    await tx.execute(
        "update incidents set state = $2, seen_us = $3, factor = $4, detail = $5 where incident_id = $1",
        incident_id, state, seen_us, factor, detail,
    )  # fmt: skip


async def outcomes_since(tx: Queries, deployment: str, since_us: int) -> int:
    """How many truths became known since an instant."""
    return int(await tx.fetchval("select count(*) from truths where deployment = $1 and known_us >= $2", deployment, since_us))


async def incidents_page(tx: Queries, deployment: str, before: int, size: int) -> list[Any]:
    """Incidents, newest first, older than number ``before``."""
    return await tx.fetch(
        "select * from incidents where deployment = $1 and n < $2 order by n desc limit $3", deployment, before, size
    )


async def clean(tx: Transaction, deployment: str, before_us: int) -> None:
    """Let go what no outcome can ask for any more."""
    for table, column in (("batches", "greatest_us"), ("shadows", "event_us"), ("truths", "known_us"), ("waiting", "known_us")):
        if table != "waiting":  # unmatched outcomes stay counted
            await tx.execute(f"delete from {table} where deployment = $1 and {column} < $2", deployment, before_us)  # noqa: S608 own names
