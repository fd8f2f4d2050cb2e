"""Writes the synchronous client from the asynchronous one: ``python tools/unasync.py [--check]``.

One source for both keeps their names, arguments and behaviour equal. ``--check`` writes nothing and exits 1 on a difference.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "libs" / "perennial" / "client"
HEADER = "# Generated from ../_async by tools/unasync.py; do not edit.\n"
RULES = [
    (r"\bgrpc\.aio\.(?=insecure_channel|secure_channel|Channel)", "grpc."),
    (r"^import grpc\.aio\n", ""),
    (r"\basync (def|for|with) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\bAsync(Perennial|Calls|Models|Features|Training|Deployments|Monitoring|Outcomes)\b", r"\1"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"client\._async", "client._sync"),
    (r", asynchronously\.", "."),
    (r"from collections\.abc import ([^\n]*)Iterator, Iterator,", r"from collections.abc import \1Iterator,"),
]


def synchronous(text: str) -> str:
    """The synchronous form of a module."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return HEADER + text


def main() -> int:
    """Write, or compare, every module."""
    stale = []
    for source in sorted((CLIENT / "_async").glob("*.py")):
        target = CLIENT / "_sync" / source.name
        wanted = synchronous(source.read_text())
        if source.name == "__init__.py":
            wanted = HEADER + '"""The synchronous client, generated from ``_async``."""\n'
        if not target.is_file() or target.read_text() != wanted:
            stale.append(target.name)
            if "--check" not in sys.argv:
                target.parent.mkdir(exist_ok=True)
                target.write_text(wanted)
    if stale and "--check" in sys.argv:
        print(f"_sync is not what _async says: {', '.join(stale)}; run python tools/unasync.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
