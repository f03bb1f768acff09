"""Streams that catch up with what is in memory and what is only in Redis."""

from __future__ import annotations

import asyncio
import time

import pytest

from guestbook.broadcast import catchup
from guestbook.broadcast.stream import State
from guestbook.core import EntryId, UnavailableError
from tests.broadcast.book import (
    LONG,
    deletion,
    filled,
    message,
    until,
)
from tests.support.waiting import eventually


async def test_cursor_older_than_memory_is_read_and_then_live() -> None:
    """Every entry comes once and in order, across what is read and what is in memory."""
    book = filled(50, low_watermark=30)
    stream = book.open(5)
    assert stream.is_in(State.CATCHING_UP)
    book.append(message(51))
    await until(stream, *range(6, 52))
    # The turn in which it was sent the last of them ends later.
    await eventually(lambda: stream.is_in(State.LIVE))
    book.append(message(52))
    await until(stream, *range(6, 53))
    assert book.fanout.counts.replays["redis"] == 1
    assert book.fanout.counts.replayed["redis"] >= 25
    assert book.fanout.counts.delivered == 47
    book.fanout.connection_lost(stream)
    assert stream.entries == 47


async def test_cursor_at_the_start_of_memory_costs_no_read() -> None:
    """However much it lacks: the log has all of it."""
    book = filled(20, text=LONG)
    stream = book.open(0)
    assert stream.is_in(State.CATCHING_UP)
    await until(stream, *range(1, 21))
    assert book.reads == 0
    assert book.fanout.counts.replayed == {"memory": 20, "redis": 0}
    # Also where reading has just arrived there.
    book = filled(50, low_watermark=30, text=LONG)
    await until(book.open(22), *range(23, 51))
    assert book.reads == 1
    assert book.fanout.counts.replayed == {"memory": 20, "redis": 8}


async def test_full_stream_that_catches_up_holds_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread data stays in memory, so a client gets no more until it reads."""
    monkeypatch.setattr(catchup, "_TURN_SECONDS", 0.001)
    book = filled(20, text=LONG)
    full = book.open(0)
    full.room = 0
    await eventually(lambda: full.paused_at is not None)
    await asyncio.sleep(0.05)
    assert len(full.unsent) == 1
    full.make_room()
    await until(full, *range(1, 21))


async def test_stream_with_room_again_before_its_turn_catches_up() -> None:
    """It was full with its greeting alone."""
    book = filled(50, low_watermark=30)
    stream = book.open(5, room=0)
    assert stream.is_in(State.CATCHING_UP)
    stream.make_room()
    await until(stream, *range(6, 51))


async def test_full_streams_keep_no_other_from_its_turn() -> None:
    """Any number of full streams that catch up do not delay another one."""
    book = filled(20, low_watermark=10, text=LONG)
    full = [book.open(0, room=0) for _ in range(20)]
    await until(book.open(0), *range(1, 21))
    assert all(stream.is_in(State.CATCHING_UP) for stream in full)


async def test_cursor_reached_by_catching_up_is_not_reset_by_an_older_answer() -> None:
    """Redis's newest id from before the read proves nothing about entries read later."""
    book = filled(50, low_watermark=30)
    book.stored += [message(number) for number in range(51, 56)]
    book.is_readable.clear()
    stream = book.open(5)
    asked_at = time.monotonic()
    book.is_readable.set()
    await until(stream, *range(6, 56))
    await eventually(lambda: stream.is_in(State.WAITING))
    book.fanout.reset_lost_cursors(EntryId(50, 0), asked_at)
    assert stream.is_in(State.WAITING)
    book.fanout.reset_lost_cursors(EntryId(50, 0), time.monotonic())
    assert stream.has_event("reset")


async def test_streams_that_catch_up_share_what_is_read() -> None:
    """Thirty streams cost hardly more reads than one, wherever each of them began."""
    book = filled(200, low_watermark=190, text="x" * 3000)
    alone = book.open(0)
    await until(alone, *range(1, 201))
    reads = book.reads
    assert reads > 5
    streams = [book.open(number) for number in range(30)]
    await eventually(lambda: all(stream.ids[-1:] == [200] for stream in streams))
    for number, stream in enumerate(streams):
        assert stream.ids == list(range(number + 1, 201))
    assert book.reads - reads < 4 * reads


async def test_trimmed_cursor_is_reset() -> None:
    """If the missing entries are not stored any more, the client loads the list again."""
    book = filled(50, low_watermark=30)
    book.trimmed = EntryId(10, 0)
    stream = book.open(5)
    await until(stream, 50)
    assert stream.has_event("reset")
    complete = book.open(10)
    await until(complete, *range(11, 51))


@pytest.mark.parametrize(
    ("failure", "reason"), [(UnavailableError(), "redis away"), (ValueError(), "error")]
)
async def test_stream_that_cannot_catch_up_is_ended(failure: Exception, reason: str) -> None:
    """Properly, so that its client comes back with its cursor."""
    book = filled(50, low_watermark=30)
    book.failure = failure
    stream = book.open(5)
    await eventually(lambda: stream.is_finished)
    assert stream.is_in(State.CLOSED)
    assert stream.end_reason == reason
    assert stream.ids == []
    book.fanout.connection_lost(stream)
    assert book.fanout.counts.closed[reason] == 1
    assert len(book.fanout) == 0


async def test_message_deleted_after_it_was_read_is_not_replayed_from_memory() -> None:
    """A late stream is not given the chunk that an earlier one was given before the deletion."""
    book = filled(1)
    book.append(*(message(number, LONG) for number in range(2, 21)))
    early = book.open(1)
    early.room = 0
    await eventually(lambda: early.paused_at is not None)
    first = book.open(1)
    await until(first, *range(2, 21))
    # The early stream still catches up, so that the chunks that were read are kept.
    assert early.is_in(State.CATCHING_UP)
    for number, target in ((21, 5), (22, 3)):
        book.append(deletion(number, target))
        late = book.open(1)
        await eventually(lambda: late.ids[-1:] == [number])  # noqa: B023  # at once
        assert target not in late.ids


async def test_message_deleted_while_it_was_read_is_not_replayed() -> None:
    """A stream that comes after a deletion does not share a read that began before it."""
    book = filled(50, low_watermark=30)
    book.is_readable.clear()
    early = book.open(5)
    await eventually(lambda: book.reads == 1)
    book.append(deletion(51, 7))
    early.room = 0
    late, later = book.open(5), book.open(5)
    await eventually(lambda: book.reads == 2)
    book.is_readable.set()
    for stream in (late, later):
        await until(stream, 6, *range(8, 52))
    # The early stream still catches up, so that what was read is kept for others.
    assert early.is_in(State.CATCHING_UP)
    last = book.open(5)
    await until(last, 6, *range(8, 52))
    # To this one the deletion takes the message away again.
    early.make_room()
    await until(early, *range(6, 52))


async def test_read_that_a_deletion_made_outdated_is_not_kept() -> None:
    """Not even where another stream has been served since the deletion."""
    book = filled(50, low_watermark=30, text=LONG)
    book.is_readable.clear()
    early = book.open(5)
    early.room = 0
    await eventually(lambda: book.reads == 1)
    book.append(deletion(51, 7))
    await until(book.open(30), *range(31, 52))
    book.is_readable.set()
    await eventually(lambda: early.paused_at is not None)
    assert early.is_in(State.CATCHING_UP)
    late = book.open(5)
    await until(late, 6, *range(8, 52))
    early.make_room()
    await until(early, *range(6, 52))


async def test_stream_that_leaves_stops_no_read_of_others() -> None:
    """The first that asked is gone; the second is given what was read."""
    book = filled(50, low_watermark=30)
    book.is_readable.clear()
    first, second = book.open(5), book.open(5)
    await eventually(lambda: book.reads == 1)
    book.fanout.connection_lost(first)
    book.is_readable.set()
    await until(second, *range(6, 51))
    assert first.ids == []
