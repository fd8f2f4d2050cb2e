"""The trainer: ``python -m services.trainer``."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perennial.runtime.service import Runtime

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(runtime: "Runtime") -> None:
    """Put the trainer together."""
    from perennial import topics
    from perennial.runtime.events import Received
    from perennial.v1 import trainer_pb2

    from services.trainer import events
    from services.trainer.agent.sources import Sources
    from services.trainer.agent.worker import Worker
    from services.trainer.service import TrainerService
    from services.trainer.store import Jobs, Watch

    jobs = Jobs(runtime.postgres)
    watch = Watch(runtime.postgres, jobs)
    sources = Sources(runtime)

    async def on_retraining_requested(event: Received) -> None:
        await jobs.add(events.retraining_of(event, runtime.clock.now()))

    runtime.add_servicer(
        TrainerService(runtime, jobs, watch, sources), trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"]
    )
    runtime.consume(topics.RETRAINING, group=events.GROUP, handle=on_retraining_requested, types={"RetrainingRequested"})
    runtime.background("watch", watch.listen)
    for number in range(runtime.config.workers):
        runtime.background(f"worker {number}", Worker(runtime, jobs, watch, sources, number=number).run)


def main() -> None:
    """Start the server of work processes first: nothing may have imported grpc by then."""
    from services.trainer.launchers import forkserver

    forkserver.start()
    from perennial.runtime.service import run

    from services.trainer.config import TrainerConfig

    run(TrainerConfig, build, migrations=MIGRATIONS)


if __name__ == "__main__":
    main()
