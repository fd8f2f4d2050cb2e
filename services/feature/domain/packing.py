"""How does the state of an entity lie in the online store?

One value an entity: a head of seven 8-byte words (version, complete_from, newest, how many minute cells, hour cells and
facts, bytes of text), then the cells and facts as rows of words, then the facts' texts as JSON, padded to a word. All
values of a view are read at once as one array of words. The version comes first and big-endian, so that bytes compare
as versions do; the rest is little-endian.
"""

from collections.abc import Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from services.feature.domain.layout import Layout
from services.feature.domain.states import Cells, Ints, LastFacts, States

HEAD = 7
_WORD = 8
Words = NDArray[np.int64]


def packed(states: States, versions: Sequence[int]) -> list[bytes]:
    """The value of each entity."""
    parts = [_cell_words(states.minutes), _cell_words(states.hours), _fact_words(states.facts)]
    sources = (states.minutes, states.hours, states.facts)
    edges = [np.searchsorted(part.entity, np.arange(len(states) + 1)) for part in sources]
    texts = _packed_texts(states, edges[2])
    head = np.empty((len(states), HEAD), dtype="<i8")
    head[:, 0] = np.asarray(versions, dtype=np.int64).byteswap()
    head[:, 1], head[:, 2] = states.complete_from, states.newest
    for place, edge in enumerate(edges):
        head[:, 3 + place] = np.diff(edge)
    head[:, 6] = [len(text) for text in texts]
    views = [
        (memoryview(words.tobytes()), (edge * (words.shape[1] * _WORD)).tolist())
        for words, edge in zip(parts, edges, strict=True)
    ]
    heads = memoryview(head.tobytes())
    return [
        b"".join((
            heads[place * HEAD * _WORD : (place + 1) * HEAD * _WORD],
            *(data[edge[place] : edge[place + 1]] for data, edge in views),
            texts[place],
        ))
        for place in range(len(states))
    ]  # fmt: skip


def version_of(value: bytes) -> int:
    """The version of a packed value."""
    return int.from_bytes(value[:_WORD], "big")


def unpacked(layout: Layout, values: Sequence[bytes]) -> States:
    """The states in these values, entities in their order. ``values`` must come from :func:`packed` with this layout."""
    words = np.frombuffer(b"".join(values), dtype="<i8") if values else np.empty(0, dtype="<i8")
    sizes = np.fromiter(map(len, values), dtype=np.int64, count=len(values)) // _WORD
    starts = np.cumsum(sizes) - sizes
    head = words[starts[:, None] + np.arange(HEAD)]
    offset = starts + HEAD
    parts = []
    for place, width in ((3, 2 + len(layout.terms)), (4, 2 + len(layout.terms)), (5, 3 + len(layout.last_numbers))):
        counts = head[:, place]
        parts.append((np.repeat(np.arange(len(values)), counts), _section(words, offset, counts, width)))
        offset = offset + counts * width
    texts = _unpacked_texts(layout, values, head)
    return States(
        layout, _cells(*parts[0]), _cells(*parts[1]), _facts(*parts[2], texts), newest=head[:, 2], complete_from=head[:, 1]
    )


def _section(words: Words, offset: Ints, counts: Ints, width: int) -> Words:
    total = int(counts.sum())
    if not total:
        return np.empty((0, width), dtype=np.int64)
    lengths = counts * width
    before = np.cumsum(lengths) - lengths
    places = np.arange(total * width) + np.repeat(offset - before, lengths)
    section: Words = words[places].reshape(total, width)
    return section


def _cell_words(cells: Cells) -> Words:
    words = np.empty((len(cells), 2 + cells.figures.shape[1]), dtype="<i8")
    words[:, 0], words[:, 1] = cells.bucket, cells.visible
    words[:, 2:] = np.ascontiguousarray(cells.figures).view(np.int64)
    return words


def _cells(entity: Ints, words: Words) -> Cells:
    return Cells(entity, words[:, 0], words[:, 1], np.ascontiguousarray(words[:, 2:]).view(np.float64))


def _fact_words(facts: LastFacts) -> Words:
    words = np.empty((len(facts), 3 + facts.numbers.shape[1]), dtype="<i8")
    words[:, 0], words[:, 1], words[:, 2] = facts.event, facts.known, facts.seq
    words[:, 3:] = np.ascontiguousarray(facts.numbers).view(np.int64)
    return words


def _facts(entity: Ints, words: Words, texts: tuple[NDArray[np.object_], ...]) -> LastFacts:
    numbers = np.ascontiguousarray(words[:, 3:]).view(np.float64)
    return LastFacts(entity, words[:, 0], words[:, 1], words[:, 2], numbers, texts)


def _packed_texts(states: States, edges: Ints) -> list[bytes]:
    if not states.layout.last_texts:
        return [b""] * len(states)
    found = []
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        data = orjson.dumps([text[start:stop].tolist() for text in states.facts.texts])
        found.append(data + b" " * (-len(data) % _WORD))
    return found


def _unpacked_texts(layout: Layout, values: Sequence[bytes], head: Words) -> tuple[NDArray[np.object_], ...]:
    columns: list[list[str | None]] = [[] for _ in layout.last_texts]
    if not columns:
        return ()
    for value, size in zip(values, head[:, 6].tolist(), strict=True):
        for column, texts in zip(columns, orjson.loads(value[len(value) - size :]), strict=True):
            column.extend(texts)
    return tuple(np.array([*column, None], dtype=object)[:-1] for column in columns)
