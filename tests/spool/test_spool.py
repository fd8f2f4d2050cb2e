"""A spool keeps what was acknowledged, whatever happens to its process."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from perennial.frames import decode
from perennial.spool import Outgoing, Part, Sender, Spool, SpoolFull, Stream, StreamInfo, Text, orphans
from perennial.spool.segments import Position, Reader, segment_numbers, segment_path
from perennial.v1.events_pb2 import PredictionBatch, StreamEnded, StreamGap

INFO = StreamInfo("prices", "prices", "1.0.0", "champion", "d" * 64, ("rooms", "area"), ("district",))


def part(stream: Stream, rows: int) -> Part:
    first = stream.take(rows)
    numbers = np.arange(first * 2, (first + rows) * 2, dtype="<f4")
    outputs = np.arange(first, first + rows, dtype="<f4")
    times = np.arange(first, first + rows, dtype="<i8")
    texts = [Text(np.zeros(rows, dtype="<i4").tobytes(), ("north",))]
    keys = Text(np.arange(rows, dtype="<i4").tobytes(), [f"k{first + i}" for i in range(rows)])
    return Part(stream.ordinal, first, rows, 0.25, 0, times.tobytes(), numbers.tobytes(), outputs.tobytes(), texts, keys)


class Topic:
    """Collects what a sender sends."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.refuse = 0

    async def send(self, messages: Sequence[Outgoing]) -> bool:
        if self.refuse:
            self.refuse -= 1
            return False
        self.messages += messages
        return True

    def rows(self) -> list[tuple[str, int]]:
        """(stream, n) of every prediction, in order."""
        found = []
        for out in self.messages:
            if isinstance(out.message, PredictionBatch):
                table = decode(out.message.inputs)
                assert table.rows == out.rows == len(out.message.event_times_us)
                assert table.numbers[:, 0].tolist() == [2.0 * (out.first_n + i) for i in range(out.rows)]
                assert out.message.event_times_us == [out.first_n + i for i in range(out.rows)]
                keys = out.message.entity_keys
                codes = np.frombuffer(keys.codes, dtype="<i4")
                assert [keys.values[c] for c in codes] == [f"k{out.first_n + i}" for i in range(out.rows)]
                found += [(out.stream, out.first_n + i) for i in range(out.rows)]
        return found


async def test_every_written_row_is_sent_once_in_order(tmp_path: Path) -> None:
    """Calls of one and of many rows become batches without holes, across segments and a refused round."""
    spool = Spool(tmp_path, segment_bytes=2000)
    topic = Topic()
    topic.refuse = 2
    sender = Sender(spool.folder, topic.send, spool=spool)
    stream = spool.stream(INFO)
    for rows in (1, 3, 1, 40, 1, 1):
        await spool.append([stream], [part(stream, rows)])
    assert len(segment_numbers(spool.folder)) > 1
    await sender.flush()
    assert topic.rows() == [(stream.id, n) for n in range(1, 48)]
    await sender.flush()
    assert len(topic.rows()) == 47
    await spool.close()


async def test_a_dead_spool_is_drained_under_its_own_ids(tmp_path: Path) -> None:
    """What was not acknowledged is sent from another object, then the stream ends; nothing is sent twice."""
    spool = Spool(tmp_path)
    topic = Topic()
    sender = Sender(spool.folder, topic.send, spool=spool)
    stream = spool.stream(INFO)
    await spool.append([stream], [part(stream, 2)])
    await sender.flush()
    await spool.append([stream], [part(stream, 3)])
    assert orphans(tmp_path, own="other") == []
    spool.release()
    [(folder, lock)] = orphans(tmp_path)
    drain = Sender(folder, topic.send, lock=lock, keep_s=0.0)
    await drain.drain()
    assert topic.rows() == [(stream.id, n) for n in range(1, 6)]
    last = topic.messages[-1].message
    assert isinstance(last, StreamEnded)
    assert last.last_n == 5
    assert drain.remove()
    drain.close()


@pytest.mark.parametrize("cut", [1, 5, 30])
async def test_a_torn_tail_ends_the_segment(tmp_path: Path, cut: int) -> None:
    """A record that was written in part is not read; what came before is."""
    spool = Spool(tmp_path)
    stream = spool.stream(INFO)
    await spool.append([stream], [part(stream, 1)])
    await spool.append([stream], [part(stream, 1)])
    path = segment_path(spool.folder, 1)
    os.truncate(path, path.stat().st_size - cut)
    spool.release()
    topic = Topic()
    await Sender(spool.folder, topic.send).drain()
    assert topic.rows() == [(stream.id, 1)]


async def test_a_full_disk_leaves_whole_records_and_a_gap(tmp_path: Path) -> None:
    """Without room the call fails whole; once there is room the gap is written before the next rows."""
    spool = Spool(tmp_path, most_bytes=1500)
    dropped: list[tuple[str, int]] = []
    spool.on_dropped = lambda deployment, rows: dropped.append((deployment, rows))
    stream = spool.stream(INFO)
    await spool.append([stream], [part(stream, 5)])
    for rows in (50, 60):
        with pytest.raises(SpoolFull):
            await spool.append([stream], [part(stream, rows)])
    await spool.append([stream], [part(stream, 1)])
    assert dropped == [("prices", 50), ("prices", 60)]
    topic = Topic()
    await Sender(spool.folder, topic.send, spool=spool).flush()
    assert topic.rows() == [(stream.id, n) for n in (1, 2, 3, 4, 5, 116)]
    [gap] = [out.message for out in topic.messages if isinstance(out.message, StreamGap)]
    assert (gap.from_n, gap.to_n, gap.reason) == (6, 115, "disk-full")


async def test_calls_that_wait_together_share_one_write(tmp_path: Path) -> None:
    """Group commit: many calls of one turn are one write."""
    spool = Spool(tmp_path)
    stream = spool.stream(INFO)
    writes = []
    write = spool.writer.write
    spool.writer.write = lambda group: (writes.append(len(group)), write(group))[1]  # type: ignore[method-assign,func-returns-value]
    await asyncio.gather(*(spool.append([stream], [part(stream, 1)]) for _ in range(20)))
    assert len(writes) == 1


async def test_a_removed_segment_is_not_missed(tmp_path: Path) -> None:
    """Segments name their streams, so a drain needs none that were acknowledged and removed."""
    spool = Spool(tmp_path, segment_bytes=1000)
    topic = Topic()
    sender = Sender(spool.folder, topic.send, spool=spool, keep_s=-1.0)
    stream = spool.stream(INFO)
    for _ in range(8):
        await spool.append([stream], [part(stream, 2)])
    await sender.flush()
    sender._remove_old()
    assert segment_numbers(spool.folder)[0] > 1
    await spool.append([stream], [part(stream, 2)])
    spool.release()
    await Sender(spool.folder, topic.send).drain()
    assert topic.rows() == [(stream.id, n) for n in range(1, 19)]
    assert not [out for out in topic.messages if isinstance(out.message, StreamGap)]


async def test_a_request_id_and_its_answer_can_be_read_back(tmp_path: Path) -> None:
    """SRV-08: the record of a call with a request id holds its answer."""
    spool = Spool(tmp_path)
    stream = spool.stream(INFO)
    await spool.append([stream], [part(stream, 1)], request_id="r-1", body=b"b" * 16, answer=b"the answer")
    found = [record for _, record in Reader(spool.folder, Position()).chunk()]
    assert (found[1].request_id, found[1].body, found[1].answer) == ("r-1", b"b" * 16, b"the answer")  # type: ignore[union-attr]
