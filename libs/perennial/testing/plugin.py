"""Which fixtures do tests get? ``stack`` (one a session), ``platform`` (one a module), ``service_process``.

``PERENNIAL_TEST_STACK=<home>`` reuses a running ``perennial up --only stack``. ``PERENNIAL_TEST_KEEP=1`` keeps namespaces.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from perennial.testing.platform import Platform, ServiceProcess
from perennial.testing.stack import RunningStack

StartService = Callable[..., Awaitable[ServiceProcess]]
_PLATFORM = pytest.StashKey[Platform]()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[RunningStack]:
    """The servers of this session. Settings loaded in this process find them by PERENNIAL_ENV_FILE."""
    running = RunningStack.named()
    folder: Path | None = None
    if running is None:
        # Not below pytest's own folder: every session that begins closes that to others, and PostgreSQL may run as another user.
        folder = Path(tempfile.mkdtemp(prefix="perennial-stack-"))
        folder.chmod(0o711)
        running = RunningStack.started(folder)
    before = os.environ.get("PERENNIAL_ENV_FILE")
    os.environ["PERENNIAL_ENV_FILE"] = str(running.env_file)
    yield running
    if before is None:
        del os.environ["PERENNIAL_ENV_FILE"]
    else:
        os.environ["PERENNIAL_ENV_FILE"] = before
    await running.stop()
    if folder is not None and not os.environ.get("PERENNIAL_TEST_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def platform_settings() -> dict[str, str]:
    """Further variables of the module's env file; a module overrides this fixture to set some."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(
    stack: RunningStack,
    platform_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Platform]:
    """A namespace for this module, dropped after it."""
    made = await Platform.provisioned(stack.servers, tmp_path_factory.mktemp("platform"), platform_settings)
    request.node.stash[_PLATFORM] = made
    yield made
    await made.close()


@pytest.fixture(scope="module")
def service_process(platform: Platform) -> StartService:
    """Starts a service of this module as a real process.

    ``await service_process("registry", PERENNIAL_REGISTRY__X="1")``: see :meth:`Platform.service`.
    """
    return platform.service


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 pytest's signature
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every service's log beside a failure."""
    report = yield
    module = item.getparent(pytest.Module)
    made = module.stash.get(_PLATFORM, None) if module is not None else None
    if report.failed and made is not None:
        for name, process in made.processes.items():
            report.sections.append((f"log of {name}", process.log()))
    return report
