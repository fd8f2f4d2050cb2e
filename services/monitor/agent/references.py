"""What does a version look like when all is well? The profiles of the versions in use, read once from their artifacts."""

from collections.abc import Iterable, Mapping

from perennial.errors import DataLoss, InvalidArgument, NotFound
from perennial.runtime import telemetry
from perennial.runtime.objects import Objects
from perennial.stats.fold import Folder
from perennial.stats.profile import Profile

from services.monitor.domain.deployments import Deployment

FILE = "reference.bin"
_LOG = telemetry.log(__name__)


class References:
    """Folders by deployment and version. A version without a readable reference has none: its rows are counted, not profiled."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._folders: dict[tuple[str, str], Folder | None] = {}

    async def load(self, versions: Iterable[tuple[str, str]], known: Mapping[str, Deployment]) -> None:
        """Read what is not here yet. ``Unavailable`` when the object store does not answer: the fold is tried again."""
        for deployment, version in versions:
            if (deployment, version) in self._folders:
                continue
            prefix = known[deployment].artifacts.get(version)
            if prefix is not None:
                self._folders[deployment, version] = await self._read(f"{prefix.rstrip('/')}/{FILE}")

    def folder(self, deployment: str, version: str) -> Folder | None:
        """What folds rows of a version, if it has a reference."""
        return self._folders.get((deployment, version))

    def profile(self, deployment: str, version: str) -> Profile | None:
        """A version's reference, if it has one."""
        folder = self.folder(deployment, version)
        return folder.profile if folder else None

    async def _read(self, key: str) -> Folder | None:
        try:
            return Folder(Profile.from_bytes(await self._objects.get(key)))
        except NotFound:
            _LOG.warning("a version has no reference", key=key)
        except (DataLoss, InvalidArgument) as error:
            _LOG.error("a reference cannot be read", key=key, error=str(error))
        return None
