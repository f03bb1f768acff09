"""The fan-out without a network: how streams open, live, and wait while their sockets are full."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestbook.broadcast import fanout
from guestbook.broadcast.stream import State
from guestbook.core import Entry, EntryId, UnavailableError
from tests.broadcast.book import (
    CURSOR,
    LONG,
    Book,
    MemoryStream,
    deletion,
    filled,
    message,
    pinging,
    until,
)
from tests.support.waiting import eventually

# Opening


async def test_cursor_in_memory_goes_live_with_what_it_missed() -> None:
    """Greeting and missed entries are one write; later entries follow."""
    book = filled(5)
    stream = book.open(3)
    assert stream.is_in(State.LIVE)
    assert len(stream.sent) == 1
    assert CURSOR.findall(stream.data) == [b"3"]
    assert stream.ids == [4, 5]
    book.append(message(6), message(7))
    await until(stream, 4, 5, 6, 7)
    assert len(stream.sent) == 2
    book.open(6)
    book.open(7)
    assert book.fanout.counts.replays == {"memory": 2, "redis": 0}


async def test_stream_without_cursor_begins_with_the_next_entry() -> None:
    """Nothing of what is in memory is sent to it."""
    book = filled(5)
    stream = book.open()
    assert (stream.state, stream.ids) == (State.LIVE, [])
    assert CURSOR.findall(stream.data) == [b"5"]
    book.append(message(6))
    await until(stream, 6)


async def test_streams_wait_until_the_log_is_loaded() -> None:
    """Then one with a cursor is sent what it missed, and one without is reset."""
    book = Book()
    book.stored = [message(1), message(2)]
    behind, without = book.open(1), book.open()
    assert behind.is_in(State.WAITING)
    assert without.is_in(State.WAITING)
    assert CURSOR.findall(behind.data) == [b"1"]
    assert b"id:" not in without.data
    book.load()
    await until(behind, 2)
    await eventually(lambda: without.has_event("reset"))
    assert without.ids == [2]
    assert behind.is_in(State.LIVE)
    assert without.is_in(State.LIVE)
    book.append(message(3))
    await until(behind, 2, 3)
    await until(without, 2, 3)


async def test_cursor_ahead_of_the_log_waits_for_it() -> None:
    """A process that lags behind sends nothing that the client has had from another one."""
    book = filled(3)
    stream = book.open(5)
    assert stream.is_in(State.WAITING)
    book.append(message(4))
    await eventually(lambda: book.delivered == [4] or not book.delivered)
    book.append(message(5), message(6))
    await until(stream, 6)
    assert stream.is_in(State.LIVE)


async def test_cursor_that_redis_never_had_is_reset() -> None:
    """`confirm` resets it if the answer was asked for after the cursor was known, else not."""
    book = filled(3)
    stream = book.open(5)
    book.fanout.reset_lost_cursors(EntryId(3, 0), asked_at=stream.cursor_at)
    book.fanout.reset_lost_cursors(EntryId(5, 0), asked_at=stream.cursor_at + 1)
    assert stream.is_in(State.WAITING)
    book.fanout.reset_lost_cursors(EntryId(3, 0), asked_at=stream.cursor_at + 1)
    assert stream.is_in(State.LIVE)
    assert stream.data.endswith(b"id: 3-0\nevent: reset\ndata: {}\n\n\0")
    assert stream.ids == [3]
    assert book.fanout.counts.resets == 1


# Live


async def test_streams_at_one_position_share_one_frame() -> None:
    """An entry is framed once, whatever the number of streams and groups."""
    book = filled(1)
    streams = [book.open() for _ in range(300)]
    book.append(message(2))
    await eventually(lambda: all(stream.ids == [2] for stream in streams))
    assert {id(stream.sent[1]) for stream in streams} == {id(streams[0].sent[1])}
    assert book.fanout.counts.delivered == 300


async def test_entries_of_a_moment_are_one_write() -> None:
    """Entries that are appended while events are gathered are sent together."""
    book = filled(1)
    stream = book.open()
    for number in range(2, 12):
        book.append(message(number))
    await until(stream, *range(2, 12))
    assert len(stream.sent) == 2


async def test_delivered_entries_are_reported_once() -> None:
    """Delivered entries are reported in order, without older ones, and only with open streams."""
    book = filled(3)
    stream = book.open(0)
    book.append(message(4))
    book.append(message(5))
    await eventually(lambda: book.delivered == [4, 5])
    book.append(message(6))
    await eventually(lambda: book.delivered == [4, 5, 6])
    book.fanout.connection_lost(stream)
    book.append(message(7))
    book.open()
    book.append(message(8))
    await eventually(lambda: book.delivered == [4, 5, 6, 8])


async def test_new_log_resets_live_streams() -> None:
    """Their clients load the list again, and are sent what comes then."""
    book = filled(5)
    # Enough for several groups.
    streams = [book.open(2 if n == 1 else None) for n in range(300)]
    book.stored = [message(10)]
    book.load()
    book.fanout.reset()
    for stream in streams:
        assert stream.ids[-1] == 10
        assert stream.count("reset") == 1
    assert book.fanout.counts.resets == 300
    book.append(message(11))
    await eventually(lambda: all(stream.ids[-2:] == [10, 11] for stream in streams))
    assert book.delivered == [11]
    book.fanout.connection_lost(streams[1])
    # Skipped entries (3, 4, 5 and 11) are not counted as sent.
    assert streams[1].entries == 4


# Full sockets


async def test_full_stream_is_sent_what_it_missed_when_it_has_room() -> None:
    """It holds up no other stream meanwhile."""
    book = filled(1)
    full, other = book.open(), book.open()
    full.room = 0
    book.append(message(2))
    await until(other, 2)
    for number in (3, 4):
        book.append(message(number))
        await eventually(lambda: other.ids[-1] == number)  # noqa: B023  # at once
    assert full.paused_at is not None
    assert full.ids == []
    full.make_room()
    await until(full, 2, 3, 4)
    assert full.paused_at is None
    book.append(message(5))
    await until(full, 2, 3, 4, 5)
    book.fanout.connection_lost(full)
    assert full.entries == 4
    assert book.fanout.counts.delivered == 8
    assert book.fanout.counts.replayed["memory"] == 2


async def test_stream_that_was_full_stays_live() -> None:
    """A full stream stays live even if its old position was dropped from memory."""
    book = Book(max_entries=5)
    book.stored = [message(1)]
    book.load()
    stream = book.open()
    stream.room = 0
    book.append(message(2))
    await eventually(lambda: stream.paused_at is not None)
    stream.make_room()
    for last in range(2, 20):
        await until(stream, *range(2, last + 1))
        book.append(message(last + 1))
    assert not stream.is_aborted


async def test_nothing_is_added_to_what_a_full_stream_has_not_taken() -> None:
    """Its missing entries, many or few, stay in the log until it has room again."""
    book = filled(20, text=LONG)
    much, little, other = book.open(1, room=0), book.open(), book.open()
    little.room = 0
    book.append(message(21))
    await until(other, 21)
    little.make_room()
    little.room = 10
    for number in (22, 23, 24):
        book.append(message(number))
        await until(other, *range(21, number + 1))
    assert len(much.unsent) == len(little.unsent) == 1
    for stream, first in ((much, 2), (little, 21)):
        stream.make_room()
        await until(stream, *range(first, 25))


async def test_rest_of_a_chunk_that_was_sent_in_part_follows() -> None:
    """No byte is lost or sent twice."""
    book = filled(1)
    full, other = book.open(), book.open()
    full_before, other_before = len(full.data), len(other.data)
    full.room = 10
    book.append(message(2))
    await until(other, 2)
    expected = other.data[other_before:]
    assert full.data[full_before:] == expected[:10]
    full.make_room()
    assert full.data[full_before:] == expected


async def test_pods_event_is_sent_to_every_stream_once() -> None:
    """A stream that waited, or had a full socket, is sent only the newest one."""
    book = filled(1)
    live, full, waiting = book.open(), book.open(), book.open(3)
    full.room = 0
    book.append(message(2))
    await eventually(lambda: full.paused_at is not None)
    for number in (1, 2):
        book.fanout.set_pods(b"event: pods\ndata: %d\n\n" % number)
        await eventually(lambda: live.count("pods") == 1 + number)  # noqa: B023  # at once
    full.make_room()
    await eventually(lambda: full.count("pods") == 2)
    book.append(message(3))
    await eventually(lambda: waiting.count("pods") == 2)
    for stream in (live, full, waiting):
        assert b"data: 2\n" in stream.data


async def test_full_stream_that_falls_out_of_the_log_is_dropped() -> None:
    """Its client comes back with its cursor."""
    book = Book(max_entries=3)
    book.load()
    full, other = book.open(), book.open()
    full.room = 0
    for number in range(1, 9):
        book.append(message(number))
        await eventually(lambda: other.ids[-1:] == [number])  # noqa: B023  # at once
    await eventually(lambda: len(book.fanout) == 1)
    assert full.is_aborted
    assert full.is_in(State.CLOSED)
    assert full.end_reason == "slow"
    assert book.fanout.counts.closed["slow"] == 1


async def test_room_that_comes_too_late_does_not_save_a_stream() -> None:
    """It has fallen out of the log by then, though nothing has been written since."""
    book = Book(max_entries=3)
    book.load()
    stream = book.open()
    stream.room = 0
    book.append(message(1))
    await eventually(lambda: stream.paused_at is not None)
    book.append(*(message(number) for number in range(2, 9)))
    stream.make_room()
    await eventually(lambda: stream.is_aborted)
    assert stream.end_reason == "slow"
    assert stream.ids == [1]


async def test_full_stream_that_lags_far_behind_catches_up_in_chunks() -> None:
    """When it has room again, it is sent all missing entries, then goes live."""
    book = filled(1)
    full = book.open()
    full.room = 0
    book.append(message(2))
    await eventually(lambda: full.paused_at is not None)
    book.append(*(message(number, LONG) for number in range(3, 20)))
    full.make_room()
    await eventually(lambda: full.is_in(State.CATCHING_UP), every=0)
    await until(full, *range(2, 20))
    await eventually(lambda: full.is_in(State.LIVE))
    book.append(message(20))
    await until(full, *range(2, 21))


async def test_pings_drop_streams_that_take_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was ended while its socket was full; every other stream gets a ping."""
    monkeypatch.setattr(fanout, "PING_SECONDS", 0.05)
    monkeypatch.setattr(fanout, "_STALLED_SECONDS", 0.2)
    book = filled(50, low_watermark=30)
    book.failure = UnavailableError()
    live, waiting = book.open(), book.open(99)
    full, ended, gone = book.open(room=0), book.open(5, room=0), book.open(room=0)
    await eventually(lambda: ended.is_finished)
    book.fanout.connection_lost(gone)
    async with pinging(book.fanout):
        await eventually(lambda: full.is_aborted and ended.is_aborted)
        await eventually(lambda: live.has_event("ping") and waiting.has_event("ping"))
    assert (full.end_reason, ended.end_reason) == ("stalled", "redis away")
    assert live.is_in(State.LIVE)
    assert waiting.is_in(State.WAITING)
    assert not gone.is_aborted


async def test_ping_leaves_streams_that_are_full_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They get it when they have room."""
    monkeypatch.setattr(fanout, "PING_SECONDS", 0.01)
    book = filled(1)
    live, full = book.open(), book.open(room=0)
    async with pinging(book.fanout):
        await eventually(lambda: live.has_event("ping"))
        assert not full.is_aborted
        full.make_room()
        await eventually(lambda: full.has_event("ping"))


# Everything at once


async def _live_through(seed: int) -> None:
    """Do random things for a while; every stream is sent each entry once and in order."""
    chance = random.Random(seed)
    book = Book(max_entries=chance.choice((10, 40, 1000)), max_bytes=chance.choice((10**5, 10**7)))
    numbers = iter(range(1, 10**6))
    book.stored = [message(next(numbers)) for _ in range(chance.randrange(60))]
    streams: list[MemoryStream] = []
    taken: set[int] = set()

    def write() -> None:
        text = LONG if chance.random() < 0.2 else "hello"
        entries: list[Entry] = [message(next(numbers), text) for _ in range(chance.randrange(1, 9))]
        if chance.random() < 0.3:
            target = chance.choice([*book.stored, *entries]).id.ms
            taken.add(target)
            entries.append(deletion(next(numbers), target))
        book.append(*entries)

    def open_one() -> None:
        cursor = chance.choice([None, 0, *(entry.id.ms for entry in book.stored[-50:])])
        if book.log.is_loaded or cursor is not None:
            streams.append(book.open(cursor))

    def touch_one() -> None:
        stream = chance.choice([each for each in streams if not each.is_in(State.CLOSED)] or [None])
        if stream is None:
            return
        if stream.room > 1000 and chance.random() < 0.5:
            stream.room = chance.choice((0, 1000))
        else:
            stream.make_room()

    for step in range(60):
        if step == 5 and not book.log.is_loaded:
            book.load()
        actions = [open_one, touch_one, *([write] * 2 if book.log.is_loaded else [])]
        chance.choice(actions)()
        await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
    write()
    last = book.stored[-1].id.ms
    for stream in streams:
        stream.make_room()
    opened = [stream for stream in streams if not stream.is_in(State.CLOSED)]
    await eventually(lambda: all(_has(stream, last) for stream in opened), every=0.002)
    for stream in streams:
        assert all(before < after for before, after in pairwise(stream.ids))
        if stream.ids:
            # One that was dropped as too slow has everything up to where it was dropped.
            ids = [entry.id.ms for entry in book.stored]
            expected = [n for n in ids if stream.ids[0] <= n <= stream.ids[-1]]
            assert [n for n in stream.ids if n not in taken] == [
                n for n in expected if n not in taken
            ]
    for stream in streams:
        book.fanout.connection_lost(stream)
        if not stream.has_event("reset"):
            assert stream.entries >= len(stream.ids)


def _has(stream: MemoryStream, last: int) -> bool:
    return stream.is_in(State.CLOSED) or stream.ids[-1:] == [last]


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_every_stream_is_sent_each_entry_once_and_in_order(seed: int) -> None:
    """This holds for any order of opening, writing, deleting, filling and reading."""
    asyncio.run(_live_through(seed))


@pytest.mark.slow
@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_more_orders(seed: int) -> None:
    """More random orders of opening, writing, deleting, filling and reading."""
    asyncio.run(_live_through(seed))
