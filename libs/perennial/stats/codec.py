"""How does a set of arrays become bytes? One self-describing block; nothing in it can run.

Layout: magic, length of the header, header (JSON: the plain values, then dtype and shape of each array), arrays' bytes;
everything after the magic is deflated. Reading checks every length before it allocates.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import DataLoss

MAGIC = b"PRN1"
LARGEST = 256 * 2**20
ALLOWED = {"<f8", "<f4", "<i8", "<i4", "<u4", "<u2", "|u1", "<u8"}


def pack(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Bytes of JSON values and named arrays; the same content always gives the same bytes.

    >>> unpack(pack({"a": 1}, {"x": np.arange(3, dtype="<i8")}))[0]
    {'a': 1}
    """
    parts = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    shapes = [[name, part.dtype.str, list(part.shape)] for name, part in parts.items()]
    if odd := {shape[1] for shape in shapes} - ALLOWED:
        raise TypeError(f"arrays of {odd} are not stored")
    header = json.dumps({"values": values, "arrays": shapes}, sort_keys=True, allow_nan=False).encode()
    body = b"".join([len(header).to_bytes(4, "little"), header, *(part.tobytes() for part in parts.values())])
    return MAGIC + zlib.compress(body, 6)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What :func:`pack` was given; arrays are read-only. DataLoss when the bytes are not whole or not ours."""
    body = _inflated(data)
    size = int.from_bytes(body[:4], "little")
    try:
        header = json.loads(body[4 : 4 + size])
        values, shapes = dict(header["values"]), [(str(n), str(d), tuple(map(int, s))) for n, d, s in header["arrays"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"statistics: the header cannot be read ({error})") from None
    place, arrays = 4 + size, {}
    for name, dtype, shape in shapes:
        if dtype not in ALLOWED or min(shape, default=0) < 0:
            raise DataLoss(f"statistics: array {name!r} has an unknown kind")
        kind = np.dtype(dtype)
        count = math.prod(shape)
        if place + count * kind.itemsize > len(body):
            raise DataLoss(f"statistics: array {name!r} is cut short")
        arrays[name] = np.frombuffer(body, kind, count, place).reshape(shape)
        place += count * kind.itemsize
    if place != len(body):
        raise DataLoss(f"statistics: {len(body) - place} bytes too many")
    return values, arrays


def _inflated(data: bytes) -> bytes:
    if data[:4] != MAGIC:
        raise DataLoss("statistics: not a profile or a fold of this format")
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data[4:], LARGEST)
    except zlib.error as error:
        raise DataLoss(f"statistics: {error}") from None
    if not inflater.eof or inflater.unused_data or len(body) < 4:
        raise DataLoss("statistics: the bytes are cut short, too many or too large")
    return body
