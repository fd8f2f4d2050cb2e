"""The monitor: ``python -m services.monitor``."""

from pathlib import Path

from perennial.runtime.service import Runtime, run
from perennial.topics import DEPLOYMENT_STATE, DEPLOYMENTS, MODELS, OUTCOMES, PREDICTIONS, TRAINING
from perennial.v1 import monitor_pb2

from services.monitor.agent.app import Agent
from services.monitor.agent.catalog import Catalog
from services.monitor.agent.collector import Collector
from services.monitor.agent.fold import Folding
from services.monitor.agent.references import References
from services.monitor.closing.closer import Closer
from services.monitor.config import MonitorConfig
from services.monitor.events import Handlers
from services.monitor.log.sink import Sink
from services.monitor.log.snapshots import Snapshots
from services.monitor.service import MonitorService
from services.monitor.service.recording import Recorder
from services.monitor.service.requesting import Requests
from services.monitor.service.settling import Settling

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(runtime: Runtime) -> None:
    """Put the service together."""
    config, postgres, clock = runtime.config, runtime.postgres, runtime.clock
    catalog, references = Catalog(postgres, runtime.peers), References(runtime.objects)
    snapshots = Snapshots(postgres, runtime.objects)
    sink = Sink(config, runtime.bus, postgres, runtime.objects, catalog, snapshots)
    closer = Closer(config, postgres, catalog, references, clock, on_cut=sink.cut)
    collector = Collector(config, runtime.bus, catalog, Folding(postgres, references), closer.wake)
    agent = Agent(config, (PREDICTIONS, OUTCOMES), collector)
    closer.lag, snapshots.written = agent.read_to_end, closer.notify
    handlers = Handlers(postgres, catalog, references, closer)
    runtime.consume(DEPLOYMENT_STATE, group="monitor", handle=handlers.on_deployment_state)
    runtime.consume(TRAINING, group="monitor", handle=handlers.on_training, types={"JobStateChanged"})
    runtime.consume(MODELS, group="monitor", handle=handlers.on_models, types={"ModelVersionRegistered"})
    runtime.consume(DEPLOYMENTS, group="monitor", handle=handlers.on_deployments)
    for name, part in (("agent", agent), ("fold", collector), ("closing", closer), ("log", sink)):
        runtime.background(name, part.run)
        runtime.condition(name, part.condition)
    requests = Requests(config, postgres, references, clock, sink.cut)
    service = MonitorService(postgres, catalog, Recorder(runtime.bus, clock), Settling(postgres, catalog, closer), requests)
    descriptor = monitor_pb2.DESCRIPTOR.services_by_name["MonitorService"]
    runtime.add_servicer(service, descriptor, own_request_ids=["TakeSnapshot"])


if __name__ == "__main__":
    run(MonitorConfig, build, migrations=MIGRATIONS)
