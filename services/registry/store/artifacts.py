"""The files of versions among the objects, and here while they come and go."""

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from perennial.errors import DataLoss, DeadlineExceeded, InvalidArgument, NotFound
from perennial.package import MANIFEST, MODEL, FileEntry, Manifest, refuse_external_data
from perennial.runtime.objects import Objects

from services.registry.domain.upload import PIECE_BYTES

_SMALL_BYTES = 1 << 20
_MEMORY_BYTES = 4 << 20
"""What one upload may hold in memory; the rest goes to disk."""


class Received:
    """An upload whose every digest was right: small files in memory, large ones on this disk."""

    def __init__(self, data: Mapping[FileEntry, bytes | Path]) -> None:
        self.data = data

    def manifest(self) -> Manifest:
        """The manifest; InvalidArgument when it is none."""
        data = self._named(MANIFEST)
        if not isinstance(data, bytes):
            raise InvalidArgument(f"{MANIFEST}: missing, or larger than {_SMALL_BYTES} bytes")
        return Manifest.decoded(data)

    async def check_graph(self) -> None:
        """InvalidArgument when the ONNX graph, if there is one, is none or reads other files."""
        data = self._named(MODEL)
        if isinstance(data, bytes):
            refuse_external_data(data)
        elif data is not None:
            await asyncio.to_thread(lambda: refuse_external_data(data.read_bytes()))

    def _named(self, name: str) -> bytes | Path | None:
        return next((data for entry, data in self.data.items() if entry.name == name), None)


class Artifacts:
    """Uploads and downloads. Keys are ``models/<artifact digest>/<file name>``."""

    def __init__(self, objects: Objects, spool: Path, *, idle_s: float) -> None:
        self._objects = objects
        self._spool = spool
        self._idle_s = idle_s

    def clear(self) -> None:
        """Remove what an earlier process left of unfinished uploads."""
        shutil.rmtree(self._spool, ignore_errors=True)
        self._spool.mkdir(parents=True, exist_ok=True)

    @asynccontextmanager
    async def received(self, files: tuple[FileEntry, ...], pieces: AsyncIterator[bytes]) -> AsyncIterator[Received]:
        """The files whose bytes follow in order, kept until the end of the block.

        DataLoss names a file whose digest is another; InvalidArgument when bytes are missing, too many or in too large pieces;
        DeadlineExceeded when the sender pauses too long.
        """
        source, data = _Pieces(pieces, self._idle_s), dict[FileEntry, bytes | Path]()
        with contextlib.ExitStack() as held:
            room = _MEMORY_BYTES
            for place, entry in enumerate(files):
                if entry.size <= min(_SMALL_BYTES, room):
                    data[entry], room = await _in_memory(entry, source), room - entry.size
                else:
                    folder = held.enter_context(tempfile.TemporaryDirectory(dir=self._spool, ignore_cleanup_errors=True))
                    data[entry] = Path(folder) / str(place)  # by its place: names never become paths
                    await _on_disk(Path(folder) / str(place), entry, source)
            await source.expect_end()
            yield Received(data)

    async def store(self, prefix: str, upload: Received) -> None:
        """Put every file among the objects; repeating it is harmless, because the prefix is made from the content."""
        await asyncio.gather(*(self._objects.put(f"{prefix}/{entry.name}", data) for entry, data in upload.data.items()))

    async def pieces(self, prefix: str, entries: Iterable[FileEntry]) -> AsyncIterator[tuple[str, bytes]]:
        """The files' bytes, each file verified before its first piece leaves; DataLoss when one is damaged or gone."""
        with tempfile.TemporaryDirectory(dir=self._spool, ignore_cleanup_errors=True) as name:
            for entry in entries:
                path = Path(name) / "file"
                await self._fetch(f"{prefix}/{entry.name}", path, entry)
                with path.open("rb") as file:
                    piece = await asyncio.to_thread(file.read, PIECE_BYTES)
                    yield entry.name, piece
                    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                        yield entry.name, piece

    async def _fetch(self, key: str, path: Path, entry: FileEntry) -> None:
        try:
            await self._objects.fetch(key, path)
        except NotFound:
            raise DataLoss(f"{entry.name} is gone from the object store ({key})") from None
        found = await asyncio.to_thread(_digest, path)
        if found != entry.sha256:
            raise DataLoss(f"{entry.name} is damaged in the object store: sha256 {found}, not {entry.sha256}")


class _Pieces:
    """Bytes taken in whatever amounts are wanted from pieces of whatever size."""

    def __init__(self, pieces: AsyncIterator[bytes], idle_s: float) -> None:
        self._pieces = pieces
        self._idle_s = idle_s
        self._rest = memoryview(b"")

    async def take(self, most: int) -> memoryview:
        """Up to ``most`` of the next bytes; empty only at the end."""
        while not self._rest:
            piece = await self._next()
            if piece is None:
                return memoryview(b"")
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    async def expect_end(self) -> None:
        """InvalidArgument when more bytes follow."""
        if await self.take(1):
            raise InvalidArgument("more bytes came than the header's files have")

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._idle_s):
                piece = await anext(self._pieces, None)
        except TimeoutError:
            raise DeadlineExceeded(f"no piece came for {self._idle_s:g} s; the upload is given up") from None
        if piece is not None and len(piece) > PIECE_BYTES:
            raise InvalidArgument(f"a piece of {len(piece)} bytes came; at most {PIECE_BYTES}")
        return piece


async def _in_memory(entry: FileEntry, source: _Pieces) -> bytes:
    parts: list[memoryview] = []
    await _copied(entry, source, parts.append)
    return b"".join(parts)


async def _on_disk(path: Path, entry: FileEntry, source: _Pieces) -> None:
    with path.open("wb") as file:
        await _copied(entry, source, file.write)


async def _copied(entry: FileEntry, source: _Pieces, write: Callable[[memoryview], object]) -> None:
    digest, missing = hashlib.sha256(), entry.size
    while missing:
        part = await source.take(missing)
        if not part:
            raise InvalidArgument(f"{entry.name}: {entry.size - missing} of {entry.size} bytes came")
        digest.update(part)
        write(part)
        missing -= len(part)
    if digest.hexdigest() != entry.sha256:
        raise DataLoss(f"{entry.name}: its bytes have sha256 {digest.hexdigest()}, not {entry.sha256}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
