"""Which performance blocks are complete, and has the champion's error moved? The residual chart, and the policy's decision."""

from collections.abc import Iterable
from dataclasses import replace

from perennial import metrics
from perennial.runtime import telemetry
from perennial.stats.cusum import Alarm, Chart, ChartPolicy
from perennial.v1 import events_pb2 as pb

from services.monitor import wire
from services.monitor.closing.moment import Moment
from services.monitor.domain.deployments import SHADOW
from services.monitor.domain.joining import Sums, merged
from services.monitor.domain.policy import Wish, wishes_of_time
from services.monitor.domain.time import block_of, blocks_between
from services.monitor.store import blocks, decisions

KEPT_BLOCKS = 60


async def close(moment: Moment) -> None:
    """Close every block that both watermarks have passed, oldest first, each with its decision."""
    until, policy = moment.both_us, moment.deployment.policy
    if until is None:
        return
    if moment.blocks_closed_us is None:
        start, _ = block_of(until, policy.block_us, policy.time_zone)
        moment.blocks_closed_us = start
        moment.state = replace(moment.state, began_us=start)
    for start, end in list(blocks_between(moment.blocks_closed_us, until, policy.block_us, policy.time_zone)):
        await _closed(moment, start, end)
        moment.blocks_closed_us = end


async def _closed(moment: Moment, start_us: int, end_us: int) -> None:
    found = await blocks.of_span(moment.tx, moment.name, start_us, end_us)
    champion = _champion(moment.deployment.champion, found)
    chart, alarm = _charted(moment, champion, start_us)
    await blocks.close(moment.tx, moment.name, end_us, chart.value if chart else 0.0)
    wishes = wishes_of_time(moment.state, moment.deployment.policy, end_us)
    chain = ""
    if alarm is not None and chart is not None:
        wish, chain = await _alarmed(moment, chart, alarm, start_us, end_us)
        wishes.append(wish)
    if champion is not None and champion.count:
        wishes += _degraded(moment, champion)
        for name, value in champion.figures().items():
            telemetry.metric(metrics.PERFORMANCE).labels(moment.name, name).set(value)
    await moment.decide(end_us, wishes, chain=chain)
    horizon = moment.deployment.policy.label_horizon_us
    await decisions.clean(moment.tx, moment.name, end_us - horizon - moment.deployment.policy.block_us)


def _champion(version: str, found: Iterable[tuple[str, str, Sums]]) -> Sums | None:
    """The champion's sums, whatever its role was when it answered."""
    whole: Sums | None = None
    for name, variant, sums in found:
        if name == version and variant != SHADOW:
            whole = merged(whole, sums)
    return whole


def _charted(moment: Moment, champion: Sums | None, start_us: int) -> tuple[Chart | None, Alarm | None]:
    """The chart after the block; a block of too few outcomes changes nothing."""
    policy, profile = moment.deployment.policy, moment.profile
    errors = profile.errors if profile is not None else None
    if moment.state.chart is not None:
        chart = Chart.from_json(moment.state.chart)
    else:
        chart = Chart.start(errors.block_means if errors else (), ChartPolicy(slack=policy.cusum_slack, limit=policy.cusum_limit))
    if champion is None or champion.count < policy.min_outcomes:
        return chart, None
    value = errors.chart_value(champion.mean_residual, champion.mean_loss) if errors else champion.mean_residual
    chart, alarm = chart.updated(value)
    starts = (*moment.state.block_starts_us, start_us)[-KEPT_BLOCKS:]
    moment.state = replace(moment.state, chart=chart.to_json(), block_starts_us=starts)
    if alarm is not None and moment.deployment.classes and alarm.direction == "down":
        return chart, None  # a smaller log-loss is no decay
    return chart, alarm


async def _alarmed(moment: Moment, chart: Chart, alarm: Alarm, start_us: int, end_us: int) -> tuple[Wish, str]:
    """The wish of an alarm; the first block of an alarm begins the chain of events."""
    starts = moment.state.block_starts_us
    change_us = starts[-min(alarm.since_blocks, len(starts))] if starts else start_us
    direction = "more" if alarm.direction == "up" else "less"
    reason = (
        f"the residual chart stands at {alarm.value:.1f} sigma (limit {chart.policy.limit:g}): truths have been {direction}"
        f" than predicted for {alarm.since_blocks} blocks"
    )
    figures = {"chart": alarm.value, "limit": chart.policy.limit, "sigma": chart.sigma, "blocks": float(alarm.since_blocks)}
    message = pb.DriftDetected(
        deployment=moment.name, version=moment.deployment.champion, window_start=wire.stamp(change_us),
        window_end=wire.stamp(end_us), severity="high", kind="performance",
    )  # fmt: skip
    chain = ""
    if moment.state.alarm_since_us is None or (not moment.state.open and moment.deployment.rollout is None):
        chain = (await moment.publish(message, end_us)).id
    moment.state = replace(moment.state, alarm_since_us=change_us)
    return Wish("performance", reason, change_us, figures), chain


def _degraded(moment: Moment, champion: Sums) -> list[Wish]:
    """What ``PERFORMANCE_DEGRADATION_THRESHOLD`` asks for: the block's loss beyond the reference's by more than that share."""
    threshold = moment.config.performance_degradation_threshold
    profile = moment.profile
    if not threshold or profile is None or profile.errors is None or champion.count < moment.deployment.policy.min_outcomes:
        return []
    usual, now = profile.errors.mean_loss, champion.mean_loss
    if not now > usual * (1 + threshold):
        return []
    return [
        Wish(
            "performance",
            f"the block's loss {now:.4g} is beyond the reference's {usual:.4g}",
            figures={"loss": now, "reference": usual},
        )
    ]
