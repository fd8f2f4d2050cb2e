"""What does this process need to answer for a deployment?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from perennial.package import ColumnType, Predictor, Signature
from perennial.package.signature import Pii
from perennial.spool import Spool, Stream, StreamInfo

from services.serving.domain.deployment import CHALLENGER, CHAMPION, Deployment
from services.serving.domain.guardrail import Guardrail
from services.serving.domain.rollout import RolloutState
from services.serving.domain.routing import salt
from services.serving.domain.spec import TimeMode
from services.serving.engine.counters import VariantCounter


@dataclass(slots=True)
class Loaded:
    """One version, loaded, in its role."""

    predictor: Predictor
    info: StreamInfo
    counter: VariantCounter
    open_stream: Stream | None = None

    def stream(self, spool: Spool) -> Stream:
        """The stream its rows go to."""
        found = self.open_stream
        if found is None or found.ended:
            found = self.open_stream = spool.stream(self.info)
        return found


def stream_info(deployment: Deployment, predictor: Predictor, version: str, variant: str) -> StreamInfo:
    """What a stream of this version and role says of itself."""
    signature = predictor.signature
    names = signature.probability_names if signature.classes else signature.output_names
    return StreamInfo(
        deployment.name, deployment.spec.model, version, variant, signature.digest, signature.number_names,
        signature.text_names, names, signature.classes,
    )  # fmt: skip


@dataclass
class Line:
    """A deployment at work in this process. Replaced whole when the deployment changes; what it holds stays as it is."""

    deployment: Deployment
    champion: Loaded
    challenger: Loaded | None = None
    guardrail: Guardrail | None = None
    cut: str = ""
    """Why the challenger gets no more rows here."""
    shadow: bool = False
    weight: int = 0
    turned: bytes = b""
    rollout_id: str = ""
    event_time: bool = False
    keyless: int = field(default=0)
    """Rows without an entity key so far: their place in the routing."""

    @classmethod
    def of(cls, deployment: Deployment, champion: Loaded, challenger: Loaded | None) -> Line:
        """The line of a deployment; without a challenger all goes to the champion."""
        line = cls(deployment, champion, event_time=deployment.spec.time is TimeMode.EVENT)
        rollout = deployment.rollout
        if rollout is not None and challenger is not None:
            policy = deployment.spec.rollout
            line.challenger = challenger
            line.guardrail = Guardrail(policy.max_error_rate, policy.max_latency_ratio)
            line.shadow = rollout.state is RolloutState.SHADOW
            line.weight = rollout.weight
            line.turned = salt(deployment.name, rollout.challenger)
            line.rollout_id = rollout.rollout_id
        return line

    @cached_property
    def signature(self) -> Signature:
        """What the champion takes; challengers take the same."""
        return self.champion.predictor.signature

    @cached_property
    def personal(self) -> tuple[tuple[str, bool, bool], ...]:
        """Columns of personal data: name, whether a number, whether kept as a hash."""
        columns = self.signature.columns
        return tuple((c.name, c.type is ColumnType.NUMBER, c.pii is Pii.HASH) for c in columns if c.pii is not Pii.NONE)

    @cached_property
    def only_keys(self) -> tuple[str, ...]:
        """Columns of a request that are entity keys and nothing else."""
        names = {c.name for c in self.signature.columns}
        return tuple({b.key_column for b in self.deployment.spec.features} - names)

    @property
    def roles(self) -> dict[str, Loaded]:
        """What is loaded, by role."""
        found = {CHAMPION: self.champion}
        if self.challenger is not None:
            found[CHALLENGER] = self.challenger
        return found
