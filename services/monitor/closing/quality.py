"""Is the data broken? Every pane the prediction watermark passes is held against the reference: incidents open within the hour.

An incident that outlives its quarantine while outcomes still come is the new truth, and asks for a retraining.
"""

import uuid
from typing import Any

from perennial.stats.fold import Fold, merge_folds
from perennial.stats.quality import QualityChange, QualitySettings, quality_changes
from perennial.stats.reference import Profile
from perennial.v1 import events_pb2 as pb

from services.monitor import wire
from services.monitor.closing.moment import Moment
from services.monitor.domain.policy import Wish
from services.monitor.domain.time import DAY_US, floored
from services.monitor.store import decisions, panes
from services.monitor.store.panes import Variant

LASTING = ("unit_change", "schema_change")
RULE = QualitySettings()


async def check(moment: Moment) -> None:
    """Look at every pane that ends at or before the prediction watermark and was not looked at yet."""
    if moment.prediction_us is None:
        return
    length = moment.deployment.policy.pane_us
    until = floored(moment.prediction_us, length)
    start = moment.panes_checked_us
    moment.panes_checked_us = max(until, start or until)
    profile = moment.profile
    if profile is None or start is None or not moment.config.drift_detection_enabled:
        return
    incidents = await decisions.open_incidents(moment.tx, moment.name)
    variant = (moment.name, moment.deployment.champion, "champion")
    held = {us for us, _, _ in await panes.between(moment.tx, variant, start, until)} if until > start else set()
    for pane_us in sorted(held) if not incidents else range(start, until, length):
        await _pane(moment, profile, variant, pane_us, incidents)
        incidents = await decisions.open_incidents(moment.tx, moment.name)


async def _pane(moment: Moment, profile: Profile, variant: Variant, pane_us: int, incidents: list[Any]) -> None:
    """Look at one pane, with as many before it as it takes to say anything."""
    end_us = pane_us + moment.deployment.policy.pane_us
    fold, since_us = await _grown(moment, profile, variant, pane_us)
    if fold is not None:
        found = quality_changes(profile, fold, settings=RULE)
        if found:
            earliest = min([since_us, *(i["since_us"] for i in incidents)])
            recent = await _merged(moment, profile, variant, earliest - DAY_US, earliest)
            found = quality_changes(profile, fold, recent, settings=RULE)
        changes = {(change.column, change.kind): change for change in found}
        for incident in incidents:
            change = changes.pop((incident["column_name"], incident["kind"]), None)
            await _seen(moment, incident, change, end_us)
        for change in changes.values():
            await _opened(moment, change, since_us, end_us)
    await _confirmed(moment, end_us)


async def _grown(moment: Moment, profile: Profile, variant: Variant, pane_us: int) -> tuple[Fold | None, int]:
    """The pane's fold; one of few rows together with those just before it, at most a day. And where it begins."""
    rows = await panes.between(moment.tx, variant, pane_us - DAY_US, pane_us + moment.deployment.policy.pane_us)
    folds: list[Fold] = []
    begin, held = pane_us, 0
    for start, count, state in reversed(rows):
        if held >= RULE.min_rows and start != begin:
            break
        if state and (fold := Fold.from_bytes(state)).profile == profile.checksum:
            folds.append(fold)
            begin, held = start, held + count
    return (merge_folds(folds), begin) if held >= RULE.min_rows else (None, pane_us)


async def _merged(moment: Moment, profile: Profile, variant: Variant, start_us: int, end_us: int) -> Fold | None:
    folds = [Fold.from_bytes(state) for _, _, state in await panes.between(moment.tx, variant, start_us, end_us) if state]
    folds = [fold for fold in folds if fold.profile == profile.checksum]
    return merge_folds(folds) if folds else None


async def _opened(moment: Moment, change: QualityChange, since_us: int, end_us: int) -> None:
    row = {
        "incident_id": uuid.uuid4().hex, "deployment": moment.name, "version": moment.deployment.champion,
        "column_name": change.column, "kind": change.kind, "factor": change.factor, "since_us": since_us, "state": "opened",
        "detail": change.detail, "seen_us": end_us,
    }  # fmt: skip
    await decisions.add_incident(moment.tx, row)
    await moment.publish(wire.incident_to(row), end_us, correlation_id=row["incident_id"])


async def _seen(moment: Moment, incident: Any, change: QualityChange | None, end_us: int) -> None:
    """An incident that still shows goes on; one that does not is over, unless it has been confirmed and awaits its model."""
    if change is not None:
        await decisions.set_incident(moment.tx, incident["incident_id"], incident["state"], end_us)
    elif incident["state"] == "opened" or incident["version"] != moment.deployment.champion:
        await _moved(moment, incident, "closed", end_us)


async def _moved(moment: Moment, incident: Any, state: str, end_us: int) -> pb.QualityIncident:
    await decisions.set_incident(moment.tx, incident["incident_id"], state, max(end_us, incident["seen_us"]))
    message = wire.incident_to({**dict(incident), "state": state})
    await moment.publish(message, end_us, correlation_id=incident["incident_id"])
    return message


async def _confirmed(moment: Moment, end_us: int) -> None:
    """Incidents past their quarantine are confirmed; confirmed ones that no retraining has answered ask for one."""
    asking = []
    for incident in await decisions.open_incidents(moment.tx, moment.name):
        state, since = incident["state"], incident["since_us"]
        lasting = incident["kind"] in LASTING and end_us - since >= moment.deployment.policy.quarantine_us
        fresh = incident["seen_us"] > since and await decisions.outcomes_since(moment.tx, moment.name, since) > 0
        if state == "opened" and lasting and fresh:
            await _moved(moment, incident, "confirmed", end_us)
            state = "confirmed"
        last = moment.state.last_request_us
        if state == "confirmed" and incident["version"] == moment.deployment.champion and (last is None or last < since):
            asking.append(incident)
    if asking and moment.deployment.policy.retrain:
        first = min(asking, key=lambda i: i["since_us"])
        units = tuple((i["column_name"], i["factor"], i["since_us"]) for i in asking if i["kind"] == "unit_change")
        wish = Wish("incident", "; ".join(i["detail"] for i in asking), first["since_us"], {"factor": first["factor"]}, units)
        cause = await moment.publish(
            wire.incident_to({**dict(first), "state": "confirmed"}), end_us, correlation_id=first["incident_id"]
        ) if not moment.state.open and moment.deployment.rollout is None else None  # fmt: skip
        await moment.decide(end_us, [wish], cause=cause, always=False)
