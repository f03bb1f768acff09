"""The ends of streams: the drain, and what is counted."""

from __future__ import annotations

import asyncio
import time

import pytest

from guestbook.broadcast import fanout
from guestbook.broadcast.stream import State
from tests.broadcast.book import (
    filled,
    message,
)
from tests.support.waiting import PATIENCE, eventually


async def test_drain_ends_every_stream_and_opens_no_other() -> None:
    """Each of them gets `bye`, in whatever state it was."""
    book = filled(50, low_watermark=30)
    book.is_readable.clear()
    streams = [book.open(), book.open(99), book.open(5)]
    assert [stream.state for stream in streams] == [State.LIVE, State.WAITING, State.CATCHING_UP]
    draining = asyncio.create_task(book.fanout.drain(0.05))
    await eventually(lambda: all(stream.is_finished for stream in streams))
    late = book.open(40)
    for stream in (*streams, late):
        assert stream.has_event("bye")
        assert stream.is_finished
        assert stream.is_in(State.CLOSED)
    assert stream.end_reason == "drain"
    book.append(message(51))
    for stream in (*streams, late):
        book.fanout.connection_lost(stream)
    await asyncio.wait_for(draining, PATIENCE)
    assert book.fanout.counts.closed["drain"] == 4
    assert all(stream.data.count(b"event: bye") == 1 for stream in streams)


async def test_drain_spreads_the_ends_over_its_time() -> None:
    """So that not all clients come back at once."""
    book = filled(1)
    streams = [book.open() for _ in range(4)]
    started = time.monotonic()
    draining = asyncio.create_task(book.fanout.drain(0.2))
    for number in range(1, 5):
        await eventually(lambda: sum(s.is_finished for s in streams) >= number, every=0.001)  # noqa: B023  # at once
        assert time.monotonic() - started >= 0.045 * number
    for stream in streams:
        book.fanout.connection_lost(stream)
    await asyncio.wait_for(draining, PATIENCE)


async def test_drain_takes_its_time_without_streams() -> None:
    """A pod is sent new ones until its load balancer knows that it stops."""
    book = filled(1)
    started = time.monotonic()
    draining = asyncio.create_task(book.fanout.drain(0.1))
    await asyncio.sleep(0)
    late = book.open()
    assert late.has_event("bye")
    book.fanout.connection_lost(late)
    await asyncio.wait_for(draining, PATIENCE)
    assert time.monotonic() - started >= 0.09


async def test_drain_cuts_streams_whose_clients_do_not_read() -> None:
    """The process does not wait for them for long."""
    book = filled(1)
    stream = book.open()
    stream.room = 0
    await asyncio.wait_for(book.fanout.drain(0), PATIENCE)
    assert stream.is_aborted
    assert stream.end_reason == "drain"


async def test_drain_leaves_time_to_take_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is slow for a moment gets `bye`, too."""
    monkeypatch.setattr(fanout, "_FLUSH_SECONDS", PATIENCE)
    book = filled(1)
    stream = book.open()
    stream.room = 0
    draining = asyncio.create_task(book.fanout.drain(0))
    await eventually(lambda: stream.is_finished)
    stream.make_room()
    assert stream.has_event("bye")
    assert not stream.is_aborted
    book.fanout.connection_lost(stream)
    await asyncio.wait_for(draining, PATIENCE)


async def test_addresses_are_counted_while_their_streams_are_open() -> None:
    """A stream that has ended frees its place, once."""
    book = filled(1)
    first, second = book.open(), book.open()
    assert book.fanout.count_streams_of("10.0.0.1") == len(book.fanout) == 2
    book.fanout.connection_lost(first)
    book.fanout.connection_lost(first)
    assert book.fanout.count_streams_of("10.0.0.1") == len(book.fanout) == 1
    book.fanout.connection_lost(second)
    assert book.fanout.count_streams_of("10.0.0.1") == len(book.fanout) == 0
    assert book.fanout.counts.closed["client gone"] == 2
    assert book.fanout.counts.opened == 2


async def test_reason_of_a_cut_is_counted_from_the_start() -> None:
    """A metric that appears only with its first event hides that event from `rate()`."""
    book = filled(1)
    known = set(book.fanout.counts.closed)
    stream = book.open(1)
    book.fanout.cut()
    book.fanout.connection_lost(stream)
    assert book.fanout.counts.closed["cut"] == 1
    assert set(book.fanout.counts.closed) == known
