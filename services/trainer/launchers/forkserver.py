"""Where does training run?

In child processes, forked from a server process that has the heavy libraries loaded, so that one starts in milliseconds.
The server is started before this process imports grpc (fork handlers), with the threads of numeric libraries fixed. When
the trainer dies, however it dies, the server and with it every child ends.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

from perennial.errors import PerennialError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "NUMEXPR_NUM_THREADS")
_PRELOADED = "services.trainer.agent.work.preload"
_PR_SET_PDEATHSIG = 1
CONTEXT = multiprocessing.get_context("forkserver")


def start(threads: int = 1) -> None:
    """Start the server process; call before anything imports grpc. It loads its libraries while this process goes on."""
    for name in _THREADS:
        os.environ.setdefault(name, str(threads))
    multiprocessing.set_forkserver_preload([_PRELOADED])
    forkserver.ensure_running()


def run_here(work: Callable[[Any, Callable[[float, str], None]], Any], spec: Any, pipe: Connection) -> None:
    """The body of a child: do ``work`` and say through ``pipe`` how far it is and what came of it."""
    _end_with_parent()

    def progress(share: float, step: str) -> None:
        pipe.send(("progress", share, step))

    try:
        result = work(spec, progress)
    except PerennialError as error:
        pipe.send(("failed", error.status, error.message))
    except Exception as error:  # noqa: BLE001 the job's author is told; this process ends here anyway
        pipe.send(("failed", "INTERNAL", f"{type(error).__name__}: {error}"[:2000]))
    else:
        pipe.send(("done", result))


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)
