"""Where may a fault test kill this process?

``PERENNIAL_CRASH_AT=outbox.after_send:3`` ends the process, as kill -9 would, the third time it passes that point.
Without the variable a point costs one comparison.
"""

import os
import signal

_NAME, _, _COUNT = os.environ.get("PERENNIAL_CRASH_AT", "").partition(":")
_left = [int(_COUNT or "1")]


def point(name: str) -> None:
    """A place between two durable steps."""
    if name == _NAME:
        _left[0] -= 1
        if _left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
