"""Generates ``libs/perennial/v1`` from ``protos/``: ``python tools/protos.py [--check]``, with the tool environment's Python.

``--check`` writes nothing and exits 1 when what is committed differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "libs" / "perennial" / "v1"
# A file without a service needs no stubs.
WITHOUT_SERVICE = ("access", "common", "events")


def generate(out: Path) -> Path:
    """The generated package, in a folder of its own."""
    tools = Path(sys.executable).parent
    sources = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos" / "perennial").rglob("*.proto"))
    package = out / "perennial" / "v1"
    package.mkdir(parents=True)
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}",
        *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
        "--include_source_info", f"--descriptor_set_out={package / 'descriptors.binpb'}", *sources,
    ]  # fmt: skip
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=ROOT / "protos")  # noqa: S603 our own tools
    for name in WITHOUT_SERVICE:
        for path in package.glob(f"{name}_pb2_grpc.py*"):
            path.unlink()
    (package / "__init__.py").touch()
    return package


def main() -> int:
    """Write, or compare."""
    with tempfile.TemporaryDirectory() as scratch:
        made = {path.name: path.read_bytes() for path in generate(Path(scratch)).iterdir()}
    kept = {path.name: path.read_bytes() for path in TARGET.iterdir() if path.is_file()}
    stale = sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))
    if "--check" in sys.argv:
        if stale:
            print(f"libs/perennial/v1 is not what protos/ says: {', '.join(stale)}; run make protos", file=sys.stderr)
        return int(bool(stale))
    for name in stale:
        if name in made:
            (TARGET / name).write_bytes(made[name])
        else:
            (TARGET / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
