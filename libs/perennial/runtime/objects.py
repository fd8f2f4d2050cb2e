"""Where are big immutable things kept?

In a bucket of any S3, or in a folder; both keep the same contract. Keys are made from content, so writing one twice is
harmless and nothing needs a conditional put. Metadata and pointers live in PostgreSQL, never here.
"""

import asyncio
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from perennial.errors import InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from perennial.runtime.config import ServiceConfig

T = TypeVar("T")
Keys = list[str]

CONNECT_S = 3.0
READ_S = 20.0
_KEY = re.compile(r"[A-Za-z0-9_=.:,@+-]+(/[A-Za-z0-9_=.:,@+-]+)*")
_KEY_LENGTH = 900
_CHUNK = 1 << 20


class Objects(Protocol):
    """A store of immutable objects. ``NotFound`` for a missing key, ``Unavailable`` when the store does not answer."""

    async def put(self, key: str, data: bytes | Path) -> None:
        """Store the bytes, or a file's content; whole or not at all."""
        ...

    async def get(self, key: str) -> bytes:
        """The bytes."""
        ...

    async def fetch(self, key: str, to: Path) -> None:
        """Write the bytes to a file; it appears whole or not at all."""
        ...

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    async def delete(self, key: str) -> None:
        """Remove it; no error when it is not there."""
        ...

    async def list(self, prefix: str) -> Keys:
        """All keys that begin with ``prefix``, sorted."""
        ...


def content_key(folder: str, data: bytes, suffix: str = "") -> str:
    """The key of ``data`` in ``folder``: its sha256."""
    return f"{folder}/{hashlib.sha256(data).hexdigest()}{suffix}"


def checked(key: str) -> str:
    """The key itself; ``InvalidArgument`` when it could be read as a path outside the store."""
    if len(key) > _KEY_LENGTH or not _KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise InvalidArgument(f"object key {key[:100]!r}: use letters, digits and _=.:,@+- between single slashes")
    return key


def open_objects(config: "ServiceConfig") -> Objects:
    """The store the settings name; connects to nothing yet."""
    if config.storage_type == "local":
        return FolderObjects(config.storage_path / config.bucket_name)
    return S3Objects(
        config.s3_endpoint, config.bucket_name, access_key=config.s3_access_key.get_secret_value(),
        secret_key=config.s3_secret_key.get_secret_value(), region=config.s3_region,
    )  # fmt: skip


class FolderObjects:
    """Objects as files under a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    async def put(self, key: str, data: bytes | Path) -> None:
        """See :class:`Objects`."""
        await asyncio.to_thread(self._put, self._path(key), data)

    async def get(self, key: str) -> bytes:
        """See :class:`Objects`."""
        try:
            return await asyncio.to_thread(self._path(key).read_bytes)
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"no object {key}") from None

    async def fetch(self, key: str, to: Path) -> None:
        """See :class:`Objects`."""
        try:
            await asyncio.to_thread(_copied, self._path(key), to)
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"no object {key}") from None

    async def exists(self, key: str) -> bool:
        """See :class:`Objects`."""
        return await asyncio.to_thread(self._path(key).is_file)

    async def delete(self, key: str) -> None:
        """See :class:`Objects`."""
        path = self._path(key)
        await asyncio.to_thread(lambda: path.unlink(missing_ok=True) if not path.is_dir() else None)

    async def list(self, prefix: str) -> Keys:
        """See :class:`Objects`."""
        return await asyncio.to_thread(self._list, prefix)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _put(self, path: Path, data: bytes | Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            _copied(data, path)
        else:
            _written(path, lambda file: file.write(data))

    def _list(self, prefix: str) -> Keys:
        found = []
        for folder, _, names in os.walk(self._root):
            for name in names:
                key = str((Path(folder) / name).relative_to(self._root))
                if key.startswith(prefix) and not name.startswith(".new-"):
                    found.append(key)
        return sorted(found)


def _written(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _copied(source: Path, to: Path) -> None:
    def write(file: Any) -> None:
        with source.open("rb") as original:
            while block := original.read(_CHUNK):
                file.write(block)

    _written(to, write)


class S3Objects:
    """Objects in a bucket; the bucket is made when it is missing."""

    def __init__(self, endpoint: str, bucket: str, *, access_key: str, secret_key: str, region: str) -> None:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        self._endpoint, self._secure = parts.netloc, parts.scheme == "https"
        self._keys: dict[str, Any] = {"access_key": access_key, "secret_key": secret_key, "region": region}
        self._bucket = bucket
        self._made: Any = None
        self._bucket_known = False

    async def put(self, key: str, data: bytes | Path) -> None:
        """See :class:`Objects`."""
        checked(key)
        await self._call(key, lambda s3: self._put(s3, key, data))

    async def get(self, key: str) -> bytes:
        """See :class:`Objects`."""
        return await self._call(checked(key), lambda s3: self._get(s3, key))

    async def fetch(self, key: str, to: Path) -> None:
        """See :class:`Objects`."""
        await self._call(checked(key), lambda s3: self._fetch(s3, key, to))

    async def exists(self, key: str) -> bool:
        """See :class:`Objects`."""
        try:
            await self._call(checked(key), lambda s3: s3.stat_object(bucket_name=self._bucket, object_name=key))
        except NotFound:
            return False
        return True

    async def delete(self, key: str) -> None:
        """See :class:`Objects`."""
        try:
            await self._call(checked(key), lambda s3: s3.remove_object(bucket_name=self._bucket, object_name=key))
        except NotFound:
            return

    async def list(self, prefix: str) -> Keys:
        """See :class:`Objects`."""

        def names(s3: Any) -> Keys:
            found = s3.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
            return sorted(item.object_name for item in found)

        return await self._call(prefix, names)

    def _put(self, s3: Any, key: str, data: bytes | Path) -> None:
        if isinstance(data, Path):
            s3.fput_object(bucket_name=self._bucket, object_name=key, file_path=str(data))
        else:
            s3.put_object(bucket_name=self._bucket, object_name=key, data=io.BytesIO(data), length=len(data))

    def _get(self, s3: Any, key: str) -> bytes:
        answer = s3.get_object(bucket_name=self._bucket, object_name=key)
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    def _fetch(self, s3: Any, key: str, to: Path) -> None:
        answer = s3.get_object(bucket_name=self._bucket, object_name=key)
        try:
            _written(to, lambda file: [file.write(block) for block in answer.stream(_CHUNK)])
        finally:
            answer.close()
            answer.release_conn()

    async def _call(self, key: str, work: Callable[[Any], T]) -> T:
        return await asyncio.to_thread(self._worked, key, work)

    def _worked(self, key: str, work: Callable[[Any], T]) -> T:
        """In a thread: the client's own timeouts are the deadline."""
        import urllib3
        from minio.error import InvalidResponseError, MinioException, S3Error

        try:
            s3 = self._client()
            return work(s3)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket", "NoSuchObject"):
                raise NotFound(f"no object {key}") from None
            raise Unavailable(f"the object store refused {key}: {error.code}") from error
        except InvalidResponseError as error:
            # rclone 1.75 says "text/xml; charset=utf-8", which minio-py 7.2.20 does not take for XML.
            if "NoSuchKey" in str(error) or "NoSuchBucket" in str(error):
                raise NotFound(f"no object {key}") from None
            raise Unavailable(f"the object store refused {key}") from error
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
            raise Unavailable(f"the object store at {self._endpoint} does not answer") from error

    def _client(self) -> Any:
        import urllib3
        from minio import Minio

        if self._made is None:
            pool = urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S), maxsize=10,
                retries=urllib3.Retry(total=2, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504]),
            )  # fmt: skip
            self._made = Minio(endpoint=self._endpoint, secure=self._secure, http_client=pool, **self._keys)
        if not self._bucket_known:
            self._ensure_bucket(self._made)
            self._bucket_known = True
        return self._made

    def _ensure_bucket(self, s3: Any) -> None:
        """Threads and services make the bucket at the same time: whoever is refused looks whether it is there now."""
        from minio.error import MinioException

        if s3.bucket_exists(bucket_name=self._bucket):
            return
        try:
            s3.make_bucket(bucket_name=self._bucket)
        except MinioException:
            if not s3.bucket_exists(bucket_name=self._bucket):
                raise
