"""Where do the columns come from that a caller gives only keys for?"""

from __future__ import annotations

from collections.abc import Sequence

from perennial.errors import InvalidArgument
from perennial.frames import Table, decode, encode_text
from perennial.runtime.peers import Peers
from perennial.v1.feature_pb2 import FeatureSelection, ReadOnlineRequest

from services.serving.engine.line import Line


async def completed(line: Line, table: Table, times_us: Sequence[int], peers: Peers, *, timeout_s: float) -> Table:
    """The rows with the columns of the feature views, each as of its own time, read in one call.

    A binding whose columns the caller gave is not read. InvalidArgument when a key column is missing.
    """
    given = set(table.names)
    selections = []
    for binding in line.deployment.spec.features:
        if given.issuperset(binding.columns):
            continue
        keys = table.texts.get(binding.key_column)
        if keys is None:
            raise InvalidArgument(f"column {binding.key_column!r} is missing or no text: it holds the key of view {binding.view}")
        selections.append(
            FeatureSelection(
                view=binding.view, keys=encode_text(keys, binding.key_column), features=binding.features, names=binding.columns
            )
        )
    rows = table.without(name for name in line.only_keys if name in given)
    if not selections:
        return rows
    answer = await peers.feature.ReadOnline(ReadOnlineRequest(selections=selections, times_us=times_us), timeout=timeout_s)
    found = decode(answer.features)
    return rows.without(name for name in found.names if name in given).merged(found)
