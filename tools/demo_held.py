"""Did the small demo hold what it must? ``python tools/demo_held.py RESULTS.json`` exits 1 and says what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def complaints(found: dict[str, Any]) -> list[str]:
    """What the results lack: a decay, a retraining, a shadow, a promotion, and an exact ledger."""
    types = {event["type"] for event in found["chain"]}
    wanted = ("RetrainingRequested", "ModelVersionRegistered", "RolloutStepped", "AliasMoved", "Promoted")
    lines = [f"the chain holds no {name}" for name in wanted if name not in types]
    if not found["retrains"]:
        lines.append("no retraining was asked for")
    if found["acknowledged"] != found["counted"] + found["late"] + found["dead_lettered"] + found["dropped"]:
        lines.append("the ledger is not exact")
    if found["features_checked"] == 0 or found["features_different"]:
        lines.append(f"{found['features_different']} of {found['features_checked']} logged predictions have other features")
    if not found["mae_platform"] < found["mae_static"]:
        lines.append("the platform is no better than the first model left alone")
    return lines


def main() -> int:
    """Read the results and judge them."""
    lines = complaints(json.loads(Path(sys.argv[1]).read_text()))
    for line in lines:
        print(f"demo: {line}", file=sys.stderr)
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
