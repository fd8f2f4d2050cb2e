"""``python -m services.serving``"""

import asyncio
from pathlib import Path

from perennial.runtime.service import Runtime, run
from perennial.spool import Spool
from perennial.topics import MODELS, MONITORING
from perennial.v1 import serving_pb2

from services.serving import events
from services.serving.config import ServingConfig
from services.serving.creation import Creation
from services.serving.engine.cache import ModelCache
from services.serving.engine.fleet import Fleet
from services.serving.engine.logbook import Logbook
from services.serving.engine.predict import DataPlane
from services.serving.engine.shadow import Shadow
from services.serving.engine.snapshot import Snapshot
from services.serving.models import Models
from services.serving.rollout.controller import Controller
from services.serving.rollout.guardrails import Guardrails
from services.serving.rollout.hearing import MODEL_EVENTS, MONITORING_EVENTS, Hearing
from services.serving.service import ServingService
from services.serving.store import Store

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(runtime: Runtime) -> None:
    """Put the service together."""
    config: ServingConfig = runtime.config
    folder = config.data_dir / (config.namespace or "default") / "serving"
    key = config.secret("service_key", "service-key").encode()
    spool = Spool(folder / "spool", most_bytes=config.spool_max_bytes)
    shadow = Shadow(spool, most=config.shadow_queue_calls)
    plane = DataPlane(config, spool, shadow, runtime.peers, config.pii_key.encode() or key)
    logbook = Logbook(folder / "spool", spool, runtime.bus, plane.repeats)
    store = Store(runtime.postgres, events.of)
    cache = ModelCache(folder / "models", runtime.objects, most=config.models_in_memory)
    fleet = Fleet(plane, store, cache, spool, Snapshot(folder, key))
    models = Models(runtime.peers)
    controller = Controller(store, fleet, models, runtime.leases, runtime.clock)
    creation = Creation(store, models, fleet, runtime.peers)
    service = ServingService(store, creation, controller, fleet, plane=plane, shadow=shadow, clock=runtime.clock)
    guardrails = Guardrails(controller)

    plane.on_cut = shadow.on_failing = fleet.on_broken = guardrails.cut
    fleet.hurry = logbook.sender.kick
    logbook.sender.watermark = fleet.arrival_watermark
    fleet.keys = runtime.verifier.keys.snapshot
    runtime.add_servicer(service, serving_pb2.DESCRIPTOR.services_by_name["ServingService"], own_request_ids=["Predict"])
    hearing = Hearing(controller)
    runtime.consume(MODELS, group="serving", handle=hearing.on_model, types=MODEL_EVENTS)
    runtime.consume(MONITORING, group="serving", handle=hearing.on_monitoring, types=MONITORING_EVENTS)
    for name, work in (
        ("spool", logbook.run), ("spools of dead processes", logbook.drain), ("spool figures", logbook.show),
        ("shadow", shadow.run), ("deployments", fleet.follow), ("rollout timers", controller.tick),
        ("aliases", controller.reconcile), ("guardrails", guardrails.run),
    ):  # fmt: skip
        runtime.background(name, work)
    runtime.condition("deployments", fleet.problem)
    runtime.on_stop("drained", shadow.finish)
    runtime.on_stop("spool", logbook.close)
    runtime.on_stop("clients", lambda: asyncio.to_thread(fleet.close))

    logbook.adopt()
    runtime.verifier.keys.restore(await fleet.restore(most_age_s=config.snapshot_max_age_s))
    if runtime.postgres.ready.is_set():
        await fleet.refresh()


if __name__ == "__main__":
    run(ServingConfig, build, migrations=MIGRATIONS)
