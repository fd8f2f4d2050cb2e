"""A column in another unit: an incident within the hour, and the new truth after its quarantine."""

import pytest
from perennial.topics import MONITORING, RETRAINING
from perennial.v1 import events_pb2 as pb
from perennial.v1 import monitor_pb2 as api

from services.monitor import wire
from services.monitor.domain.time import HOUR_US
from tests.monitor.world import T0, World


async def test_kilometres_open_an_incident_within_the_hour_and_ask_after_six(world: World) -> None:  # R02, MON-16
    """The incident names column, kind and factor; while outcomes come it is confirmed after 6 h and asks with the unit change."""
    d = await world.deployed()
    for hour in range(24):
        await d.hour(T0 + hour * HOUR_US, 40)
    await d.settle(T0 + 24 * HOUR_US)
    assert not (await world.call("ListIncidents", api.ListIncidentsRequest(deployment=d.name))).incidents
    changed = T0 + 24 * HOUR_US
    await d.hour(changed, 150, scale=1.609, settle=True)
    found = (await world.call("ListIncidents", api.ListIncidentsRequest(deployment=d.name))).incidents
    assert [(i.column, i.kind, i.state) for i in found] == [("distance", "unit_change", "opened")]
    assert found[0].factor == pytest.approx(1.609, rel=0.05)
    assert wire.us_from(found[0].since) == changed
    for hour in range(1, 5):
        await d.hour(changed + hour * HOUR_US, 60, scale=1.609, settle=True)
    assert not (await d.settle(changed + 5 * HOUR_US)).open_decisions
    await d.hour(changed + 5 * HOUR_US, 60, scale=1.609)
    decisions = (await d.settle(changed + 6 * HOUR_US)).open_decisions
    assert len(decisions) == 1
    asked = next(e.message for e in await world.events(RETRAINING, 1, deployment=d.name))
    assert isinstance(asked, pb.RetrainingRequested)
    assert asked.trigger == "incident"
    assert [(u.column, wire.us_from(u.since)) for u in asked.unit_changes] == [("distance", changed)]
    assert wire.us_from(asked.change_point) == changed
    states = [
        e.message.state for e in await world.events(MONITORING, 2, deployment=d.name) if isinstance(e.message, pb.QualityIncident)
    ]
    assert states[:2] == ["opened", "confirmed"]


async def test_an_incident_that_passes_is_closed_and_asks_for_nothing(world: World) -> None:
    """A broken hour that heals closes its incident."""
    d = await world.deployed()
    for hour in range(10):
        await d.hour(T0 + hour * HOUR_US, 150, scale=1.609 if hour == 6 else 1.0, settle=True)
    found = (await world.call("ListIncidents", api.ListIncidentsRequest(deployment=d.name))).incidents
    assert [i.state for i in found] == ["closed"]
    assert not (await world.call("ListDecisions", api.ListDecisionsRequest(deployment=d.name, requested_only=True))).decisions
