"""The files of versions among the objects, and on this disk while they come and go."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from perennial.errors import DataLoss, DeadlineExceeded, InvalidArgument, NotFound
from perennial.package import MANIFEST, MODEL, FileEntry, Manifest, refuse_external_data
from perennial.runtime.objects import Objects

from services.registry.domain.upload import PIECE_BYTES

_SMALL_BYTES = 1 << 20
_MANIFEST_BYTES = 4 << 20


class Spooled:
    """An upload on this disk whose every digest was right."""

    def __init__(self, folder: Path, files: tuple[FileEntry, ...]) -> None:
        self._folder = folder
        self.files = files

    def path(self, entry: FileEntry) -> Path:
        """Where a file lies: by its place in the header, because names never become paths."""
        return self._folder / str(self.files.index(entry))

    def data(self, entry: FileEntry) -> bytes | Path:
        """A small file's bytes, a large one's path."""
        path = self.path(entry)
        return path.read_bytes() if entry.size <= _SMALL_BYTES else path

    def named(self, name: str) -> Path | None:
        """Where the file of that name lies, or None."""
        return next((self.path(entry) for entry in self.files if entry.name == name), None)

    def manifest(self) -> Manifest:
        """The manifest; InvalidArgument when it is none."""
        path = self.named(MANIFEST)
        if path is None or path.stat().st_size > _MANIFEST_BYTES:
            raise InvalidArgument(f"{MANIFEST}: missing, or larger than {_MANIFEST_BYTES} bytes")
        return Manifest.decoded(path.read_bytes())

    async def check_graph(self) -> None:
        """InvalidArgument when the ONNX graph, if there is one, is none or reads other files."""
        path = self.named(MODEL)
        if path is None:
            return
        if path.stat().st_size <= _SMALL_BYTES:
            refuse_external_data(path.read_bytes())
        else:
            await asyncio.to_thread(lambda: refuse_external_data(path.read_bytes()))


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
    async def received(self, files: tuple[FileEntry, ...], pieces: AsyncIterator[bytes]) -> AsyncIterator[Spooled]:
        """The files whose bytes follow in order, on disk until the end of the block.

        DataLoss names a file whose digest is another; InvalidArgument when bytes are missing, too many or in too large pieces;
        DeadlineExceeded when the sender pauses too long.
        """
        with tempfile.TemporaryDirectory(dir=self._spool, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            source = _Pieces(pieces, self._idle_s)
            for place, entry in enumerate(files):
                await _write(folder / str(place), entry, source)
            await source.expect_end()
            yield Spooled(folder, files)

    async def store(self, prefix: str, upload: Spooled) -> None:
        """Put every file among the objects; repeating it is harmless, because the prefix is made from the content."""
        await asyncio.gather(*(self._objects.put(f"{prefix}/{entry.name}", upload.data(entry)) for entry in upload.files))

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


async def _write(path: Path, entry: FileEntry, source: _Pieces) -> None:
    digest, missing = hashlib.sha256(), entry.size
    with path.open("wb") as file:
        while missing:
            part = await source.take(missing)
            if not part:
                raise InvalidArgument(f"{entry.name}: {entry.size - missing} of {entry.size} bytes came")
            digest.update(part)
            file.write(part)
            missing -= len(part)
    if digest.hexdigest() != entry.sha256:
        raise DataLoss(f"{entry.name}: its bytes have sha256 {digest.hexdigest()}, not {entry.sha256}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
