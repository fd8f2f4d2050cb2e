"""When is a cut of the log written, and who is told? The manifest names its files; then the request that rests on it goes out."""

import hashlib
from typing import Any

import orjson
from perennial import metrics
from perennial.runtime import crash, telemetry
from perennial.runtime.events import Event
from perennial.runtime.objects import Objects
from perennial.runtime.postgres import Postgres, Transaction
from perennial.topics import RETRAINING
from perennial.v1 import events_pb2 as pb

from services.monitor import wire
from services.monitor.domain.policy import PENDING, RELEASED
from services.monitor.store import decisions, logged, streams


class Snapshots:
    """Writes the manifests of cuts whose streams are in the log."""

    def __init__(self, postgres: Postgres, objects: Objects) -> None:
        self._postgres, self._objects = postgres, objects
        self.written: Any = None
        """Called with the deployment's name after a manifest is written."""

    async def write(self, cuts: list[Any]) -> bool:
        """Write what is reached; False when a cut is not."""
        whole = True
        for cut in cuts:
            if await self._reached(cut):
                await self._write(cut)
            else:
                whole = False
        return whole

    async def _reached(self, cut: Any) -> bool:
        """Whether the log's positions are at or past the cut's, stream by stream."""
        now = await streams.positions(self._postgres, streams.LOG, cut["deployment"])
        wanted = ((now["predictions"], cut["cut"]["streams"]), (now["outcomes"], cut["cut"]["outcome_streams"]))
        return all(here.get(stream, 1) >= n for here, there in wanted for stream, n in there.items())

    async def _write(self, cut: Any) -> None:
        found = await logged.files(self._postgres, cut["deployment"], cut["from_us"])
        manifest = {
            "format": 1, "deployment": cut["deployment"], "cut": cut["cut"],
            "files": [{name: row[name] for name in ("key", "sha256", "rows", "kind", "from_us", "to_us")} for row in found],
        }  # fmt: skip
        data = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
        sha256 = hashlib.sha256(data).hexdigest()
        key = f"log/{cut['deployment']}/snapshots/{sha256}.json"
        await self._objects.put(key, data)
        crash.point("monitor.manifest_written")
        rows, outcomes = (sum(row["rows"] for row in found if row["kind"] == kind) for kind in ("predictions", "outcomes"))
        async with self._postgres.transaction() as tx:
            if await decisions.written(tx, cut["snapshot_id"], key, sha256, rows, outcomes) and cut["decision_id"]:
                await self._release(tx, cut["decision_id"], await decisions.snapshot(tx, cut["snapshot_id"]))
        if self.written is not None:
            await self.written(cut["deployment"])

    async def _release(self, tx: Transaction, decision_id: str, snapshot: Any) -> None:
        """Send the request that waited for its snapshot."""
        decision = await decisions.get(tx, decision_id)
        if decision is None or decision["state"] != PENDING:
            return
        asked = decision["request"]
        message = pb.RetrainingRequested(
            decision_id=decision_id, deployment=decision["deployment"], model=asked["model"], version=asked["version"],
            trigger=decision["trigger"], reason=decision["reason"], window_start=wire.stamp(asked["window_start_us"]),
            window_end=wire.stamp(asked["window_end_us"]), change_point=wire.stamp(asked["change_us"]),
            snapshot=wire.snapshot_to(snapshot), first_training_set=asked["first_training_set"],
            unit_changes=[pb.UnitChange(column=c, factor=f, since=wire.stamp(us)) for c, f, us in asked["units"]],
        )  # fmt: skip
        await tx.publish(
            Event(RETRAINING, asked["model"], message, subject=decision["deployment"], time=wire.time_of(decision["time_us"]),
                  correlation_id=decision["correlation_id"], causation_id=decision["causation_id"],
                  aggregate=f"retraining/{decision['deployment']}")
        )  # fmt: skip
        await decisions.move(tx, decision_id, RELEASED)
        telemetry.metric(metrics.RETRAININGS).labels(decision["deployment"], decision["trigger"]).inc()
