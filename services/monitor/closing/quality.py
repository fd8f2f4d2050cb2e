"""Is the data broken? Every pane the prediction watermark passes is held against the reference: incidents open within the hour.

An incident that outlives its quarantine while outcomes still come is the new truth, and asks for a retraining.
"""

import uuid
from functools import lru_cache
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

LASTING = ("unit_change", "schema_change")
RULE = QualitySettings()
DECISIVE_ROWS = 120
"""Rows that say whether an open incident goes on: a single pane of forty may hide it by chance."""


LONGEST_US = 3 * DAY_US
"""How far back an incident's own rows are looked at: what it was is known by then."""

Held = list[tuple[int, int, Fold]]
"""Start, rows and fold of panes, ascending."""

_fold = lru_cache(maxsize=128)(Fold.from_bytes)  # a pane that has closed is looked at again in each of the next 24 hours


async def check(moment: Moment) -> None:
    """Look at every pane that ends at or before the prediction watermark and was not looked at yet."""
    if moment.prediction_us is None:
        return
    length = moment.deployment.policy.pane_us
    until, start = floored(moment.prediction_us, length), moment.panes_checked_us
    moment.panes_checked_us = max(until, start or until)
    profile = moment.profile
    if profile is None or start is None or until <= start or not moment.config.drift_detection_enabled:
        return
    variant = (moment.name, moment.deployment.champion, "champion")
    incidents = await decisions.open_incidents(moment.tx, moment.name)
    earliest = min([start, *(i["since_us"] for i in incidents)])
    rows = await panes.between(moment.tx, variant, max(earliest, until - LONGEST_US) - DAY_US, until)
    folds = [(us, count, _fold(state)) for us, count, state in rows if state]
    held = [item for item in folds if item[2].profile == profile.checksum]
    filled = {us for us, _, _ in held}
    for pane_us in range(start, until, length):
        if pane_us in filled or incidents:
            known = [item for item in held if item[0] <= pane_us]
            if await _pane(moment, profile, known, pane_us, incidents):
                incidents = await decisions.open_incidents(moment.tx, moment.name)


async def _pane(moment: Moment, profile: Profile, held: Held, pane_us: int, incidents: list[Any]) -> bool:
    """Look at one pane alone and with those just before it, and at what open incidents have become; True when any moved."""
    length = moment.deployment.policy.pane_us
    end_us, moved = pane_us + length, False
    if held and held[-1][0] == pane_us:
        for incident in incidents:
            await _seen(moment, profile, incident, held, end_us)
            moved = True
        known = {(i["column_name"], i["kind"]) for i in incidents}
        changes: dict[tuple[str, str], tuple[QualityChange, int]] = {}
        for grown in dict.fromkeys(_grown(held, RULE.min_rows, pane_us - before * length) for before in (0, 2, 5)):
            for change in _changes(profile, held, grown, incidents):
                changes.setdefault((change.column, change.kind), (change, held[-grown][0]))
        for key, (change, since_us) in changes.items():
            if key not in known:
                await _opened(moment, change, since_us, end_us)
                moved = True
    if incidents or moved:
        await _confirmed(moment, end_us)
    return moved


def _changes(profile: Profile, held: Held, grown: int, incidents: list[Any]) -> tuple[QualityChange, ...]:
    """What is broken in the last panes and was not before, in the day before them and before any open incident."""
    if not grown:
        return ()
    fold = merge_folds([fold for _, _, fold in held[-grown:]])
    if not quality_changes(profile, fold, settings=RULE):
        return ()
    earliest = min([held[-grown][0], *(i["since_us"] for i in incidents)])
    before = [fold for us, _, fold in held if earliest - DAY_US <= us < earliest]
    return quality_changes(profile, fold, merge_folds(before) if before else None, settings=RULE)


def _grown(held: Held, least_rows: int, until_us: int, since_us: int = 0) -> int:
    """How many of the last panes reach back to ``until_us``, and further until they hold enough rows.

    0 when there are too few rows from ``since_us`` on.
    """
    count = taken = 0
    for us, rows, _ in reversed(held):
        if us < since_us or (count >= least_rows and us < until_us):
            break
        taken, count = taken + 1, count + rows
    return taken if count >= least_rows else 0


async def _opened(moment: Moment, change: QualityChange, since_us: int, end_us: int) -> None:
    row: dict[str, Any] = {
        "incident_id": uuid.uuid4().hex, "deployment": moment.name, "version": moment.deployment.champion,
        "column_name": change.column, "kind": change.kind, "factor": change.factor, "since_us": since_us, "state": "opened",
        "detail": change.detail, "seen_us": end_us,
    }  # fmt: skip
    await decisions.add_incident(moment.tx, row)
    await moment.publish(wire.incident_to(row), end_us, event_id=row["incident_id"])


async def _seen(moment: Moment, profile: Profile, incident: Any, held: Held, end_us: int) -> None:
    """An incident goes on while its last rows show it, or all since it began; when enough of them do not, it is over."""
    if incident["version"] != moment.deployment.champion:
        await _moved(moment, incident, "closed", end_us)
        return
    last = _grown(held, DECISIVE_ROWS, end_us, incident["since_us"])
    if not last:
        return
    fold = merge_folds([fold for _, _, fold in held[-last:]])
    whole = merge_folds([fold for us, _, fold in held if us >= incident["since_us"]])
    shown = {(c.column, c.kind): c for part in (fold, whole) for c in quality_changes(profile, part, settings=RULE)}
    change = shown.get((incident["column_name"], incident["kind"]))
    if change is not None:  # the factor is the better known the more rows show it
        await decisions.set_incident(moment.tx, incident["incident_id"], incident["state"], end_us, change.factor, change.detail)
    elif incident["state"] == "opened" or not moment.deployment.policy.retrain:
        await _moved(moment, incident, "closed", end_us)


async def _moved(moment: Moment, incident: Any, state: str, end_us: int) -> pb.QualityIncident:
    seen_us = incident["seen_us"] if state == "closed" else max(end_us, incident["seen_us"])
    await decisions.set_incident(moment.tx, incident["incident_id"], state, seen_us, incident["factor"], incident["detail"])
    message = wire.incident_to({**dict(incident), "state": state})
    await moment.publish(message, end_us, correlation_id=incident["incident_id"], causation_id=incident["incident_id"])
    return message


async def _confirmed(moment: Moment, end_us: int) -> None:
    """Incidents past their quarantine are confirmed; confirmed ones that no retraining has answered ask for one."""
    asking = []
    for incident in await decisions.open_incidents(moment.tx, moment.name):
        state, since = incident["state"], incident["since_us"]
        lasting = incident["kind"] in LASTING and end_us - since >= moment.deployment.policy.quarantine_us
        # Enough rows must have shown it again when the quarantine was over: a quiet night confirms nothing.
        fresh = incident["seen_us"] - since >= moment.deployment.policy.quarantine_us
        if state == "opened" and lasting and fresh and await decisions.outcomes_since(moment.tx, moment.name, since) > 0:
            await _moved(moment, incident, "confirmed", end_us)
            state = "confirmed"
        last = moment.state.last_request_us
        if state == "confirmed" and incident["version"] == moment.deployment.champion and (last is None or last < since):
            asking.append(incident)
    if asking and moment.deployment.policy.retrain:
        first = min(asking, key=lambda i: i["since_us"])
        units = tuple((i["column_name"], i["factor"], i["since_us"]) for i in asking if i["kind"] == "unit_change")
        wish = Wish("incident", "; ".join(i["detail"] for i in asking), first["since_us"], {"factor": first["factor"]}, units)
        await moment.decide(end_us, [wish], chain=first["incident_id"], always=False)
