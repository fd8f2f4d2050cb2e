"""How does the challenger stand against the champion? One ``VariantsCompared`` for every hour that both watermarks pass."""

import math

from perennial.stats.losses import UNIT, PairedSums
from perennial.v1 import events_pb2 as pb

from services.monitor import wire
from services.monitor.closing.moment import Moment
from services.monitor.domain.time import HOUR_US, floored
from services.monitor.store import blocks
from services.monitor.store.deployments import Watch

MOST_DAY_SPREAD = 0.05
"""A paired gain spreads less between days than the loss itself, which is what the reference knows; measured: 5 % of the error."""


def _next_hour(rollout: str, started_us: int, compared: tuple[str, int | None]) -> int:
    """End of the first hour that has not been compared: the first full hour after the rollout began."""
    done = compared[1] if compared[0] == rollout and compared[1] is not None else floored(started_us, HOUR_US)
    return done + HOUR_US


def behind(watch: Watch) -> bool:
    """Whether hours have passed that were not compared, because the rollout became known only now."""
    rollout = watch.deployment.rollout
    if rollout is None or not rollout.comparing or watch.both_us is None:
        return False
    return _next_hour(rollout.rollout_id, rollout.started_us, (watch.compared_rollout, watch.compared_us)) <= watch.both_us


async def compare(moment: Moment) -> None:
    """Publish the figures as of every hour that both watermarks have passed since the rollout began."""
    rollout, until = moment.deployment.rollout, moment.both_us
    if rollout is None or not rollout.comparing or until is None:
        return
    hour = _next_hour(rollout.rollout_id, rollout.started_us, moment.compared)
    if hour > until:
        return
    found = await blocks.pairs(moment.tx, moment.name, rollout.rollout_id, until)
    rows, failures = await blocks.shadow_count(moment.tx, moment.name, rollout.rollout_id)
    profile = moment.profile_of(rollout.champion)
    spread = profile.errors.day_spread if profile is not None and profile.errors is not None else math.nan
    while hour <= until:
        message = pb.VariantsCompared(
            deployment=moment.name, rollout=rollout.rollout_id, champion=rollout.champion, challenger=rollout.challenger,
            blocks=[_block(start, sums) for start, sums in found if start + HOUR_US <= hour and sums.count],
            as_of=wire.stamp(hour), day_spread=min(spread, MOST_DAY_SPREAD) if spread > 0 else MOST_DAY_SPREAD,
            shadow_rows=rows, shadow_failures=failures,
        )  # fmt: skip
        await moment.publish(message, hour, correlation_id=rollout.correlation_id, causation_id=rollout.correlation_id)
        moment.compared = (rollout.rollout_id, hour)
        hour += HOUR_US


def _block(start_us: int, sums: PairedSums) -> pb.PairedBlock:
    return pb.PairedBlock(
        start=wire.stamp(start_us), end=wire.stamp(start_us + HOUR_US), count=sums.count, champion_loss=sums.champion / UNIT,
        challenger_loss=sums.challenger / UNIT, squared_difference=sums.squared_difference / UNIT,
    )  # fmt: skip
