"""How are deployments read back from plain data (JSON)? They are written with ``dataclasses.asdict``."""

from __future__ import annotations

from typing import Any

from services.serving.domain.deployment import Deployment
from services.serving.domain.rollout import Build, Rollout, RolloutState
from services.serving.domain.spec import FeatureBinding, RolloutPolicy, Spec, TimeMode


def spec(body: dict[str, Any]) -> Spec:
    """The spec."""
    features = tuple(
        FeatureBinding(b["view"], b["key_column"], tuple(b["features"]), tuple(b["columns"])) for b in body["features"]
    )
    policy = RolloutPolicy(**{**body["rollout"], "steps": tuple(body["rollout"]["steps"])})
    return Spec(**{**body, "features": features, "rollout": policy, "time": TimeMode(body["time"])})


def rollout(body: dict[str, Any]) -> Rollout:
    """The rollout."""
    return Rollout(**{**body, "build": Build(**body["build"]), "state": RolloutState(body["state"])})


def deployment(body: dict[str, Any]) -> Deployment:
    """The deployment."""
    rollouts = {name: rollout(body[name]) if body[name] else None for name in ("rollout", "pending")}
    return Deployment(**{**body, **rollouts, "spec": spec(body["spec"]), "champion": Build(**body["champion"])})
