"""``perennial deployments``: deployments and their rollouts."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from perennial.cli.output import EnvOption, JsonOption, LimitOption, platform, show, show_message, when, word

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Deployments and their rollouts")
Name = Annotated[str, typer.Argument(help="The deployment")]


@app.command("list")
def list_deployments(limit: LimitOption = 50, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Every deployment with the versions at work."""
    with platform(env_file) as found:
        rows = [_deployment(d) for d in islice(found.deployments.list(), limit)]
    show(rows, as_json=as_json, empty="no deployments")


@app.command("show")
def show_deployment(name: Name, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """One deployment with its policies and state."""
    with platform(env_file) as found:
        show_message(found.deployments.get(name), as_json=as_json)


@app.command()
def create(
    name: Name,
    model: Annotated[str, typer.Argument(help="A registered model; its alias champion is served")],
    retrain: Annotated[bool, typer.Option(help="Let the monitor ask for retrainings")] = True,
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Put a model to work; every prediction is logged and watched from the first on."""
    from perennial.v1.serving_pb2 import DeploymentSpec, MonitoringPolicy, RolloutPolicy

    spec = DeploymentSpec(
        name=name, model=model, rollout=RolloutPolicy(auto=True), monitoring=MonitoringPolicy(retrain=retrain, outcomes=True)
    )
    with platform(env_file) as found:
        show_message(found.deployments.create(spec), as_json=as_json)


@app.command()
def retire(name: Name, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """End a deployment; its history stays."""
    with platform(env_file) as found:
        show_message(found.deployments.retire(name), as_json=as_json)


@app.command()
def rollouts(name: Name, limit: LimitOption = 20, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Rollouts of a deployment, newest first."""
    with platform(env_file) as found:
        rows = [_rollout(r) for r in islice(found.deployments.rollouts(name), limit)]
    show(rows, as_json=as_json, empty=f"no rollouts of {name} yet")


@app.command()
def rollout(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version to roll out")],
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Open a rollout by hand."""
    with platform(env_file) as found:
        show_message(found.deployments.start_rollout(name, version), as_json=as_json)


@app.command()
def abort(
    rollout_id: Annotated[str, typer.Argument(help="Id of an open rollout")],
    reason: Annotated[str, typer.Option(help="Why; kept in its history")],
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """End an open rollout; a live challenger is taken back."""
    with platform(env_file) as found:
        show_message(found.deployments.abort_rollout(rollout_id, reason), as_json=as_json)


def _deployment(deployment: Any) -> dict[str, Any]:
    from perennial.v1.serving_pb2 import RolloutState

    return {
        "deployment": deployment.spec.name,
        "model": deployment.spec.model,
        "versions": [f"{v.version} {'shadow' if v.shadow else f'{v.weight / 10:g} %'}" for v in deployment.variants],
        "rollout": word(RolloutState, deployment.rollout.state) if deployment.rollout.rollout_id else "",
        "retired": deployment.retired,
    }


def _rollout(rollout: Any) -> dict[str, Any]:
    from perennial.v1.serving_pb2 import RolloutState

    return {
        "rollout": rollout.rollout_id,
        "version": rollout.challenger,
        "state": word(RolloutState, rollout.state),
        "share": f"{rollout.weight / 10:g} %",
        "began": when(rollout.started_at),
        "ended": when(rollout.ended_at),
        "gain": f"{100 * rollout.gain:.1f} %",
        "reason": rollout.reason,
    }
