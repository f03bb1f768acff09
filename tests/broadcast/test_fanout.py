"""The fan-out without a network: the states of a stream, and what it is sent in each of them."""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestbook.broadcast import Fanout, ReplayUnavailableError, catchup, fanout
from guestbook.broadcast.stream import State, Stream
from guestbook.core import ORIGIN, Deletion, Entry, EntryId, EventLog, LogEntry, Message
from tests.support.waiting import PATIENCE, eventually

_GREETING = b"event: pods\ndata: {}\n\n"
_LONG = "x" * 30_000
# Without those of greetings, which are cursors.
_ID = re.compile(rb"(?:^|\0)id: (\d+)-0$(?!\nevent: pods$)", re.MULTILINE)
_CURSOR = re.compile(rb"^: guestbook\nretry: \d+\nid: (\d+)-0\nevent: pods\n")


class MemoryStream(Stream):
    """A stream that keeps what it is sent. `room` is how many bytes its socket takes."""

    def __init__(self, fanout: Fanout, cursor: EntryId | None = None) -> None:
        super().__init__(fanout, "10.0.0.1", cursor)
        self.channel = self
        self.sent: list[bytes | memoryview] = []
        self.unsent: list[bytes | memoryview] = []
        self.room = sys.maxsize
        self.is_finished = False
        self.is_aborted = False
        self._ids: list[int] = []
        self._looked_at = 0
        self._tail = b""

    @staticmethod
    def frame(data: bytes) -> bytes:
        # As an empty chunk of HTTP would, an empty frame would end the response.
        assert data
        return data + b"\0"

    @staticmethod
    def send(channel: MemoryStream, framed: bytes | memoryview, /) -> int:
        if not channel.room:
            raise BlockingIOError
        sent = min(len(framed), channel.room)
        channel.sent.append(framed[:sent])
        channel.room -= sent
        return sent

    def write(self, framed: bytes | memoryview) -> None:
        if len(framed) <= self.room:
            self.sent.append(framed)
            return
        self.unsent.append(framed)
        if self.paused_at is None:
            self._fanout.pause(self)

    def make_room(self) -> None:
        """Take what could not be sent, as a client does that reads again."""
        self.room = sys.maxsize
        self.sent += self.unsent
        self.unsent.clear()
        if self.paused_at is not None:
            self._fanout.resume(self)

    def finish(self) -> None:
        self.is_finished = True

    def abort(self) -> None:
        self.is_aborted = True
        asyncio.get_running_loop().call_soon(self._fanout.connection_lost, self)

    @property
    def data(self) -> bytes:
        """Everything that was sent."""
        return b"".join(self.sent)

    @property
    def ids(self) -> list[int]:
        """The first halves of the ids of all events, in the order in which they were sent."""
        new = self._tail + b"".join(self.sent[self._looked_at :])
        self._looked_at = len(self.sent)
        lines, self._tail = new[: new.rfind(b"\n") + 1], new[new.rfind(b"\n") + 1 :]
        self._ids += [int(number) for number in _ID.findall(lines)]
        return list(self._ids)

    def count(self, name: str) -> int:
        """Return how many events of a name were sent."""
        return self.data.count(f"event: {name}\n".encode())

    def is_in(self, state: State) -> bool:
        return self.state is state

    def has_event(self, name: str) -> bool:
        return self.count(name) > 0


class Book:
    """A stored stream of entries, a log that holds the newest of them, and a fan-out."""

    def __init__(self, max_entries: int = 1000, max_bytes: int = 10**9) -> None:
        self.stored: list[Entry] = []
        self.trimmed = ORIGIN
        self.reads = 0
        self.failure: Exception | None = None
        self.is_readable = asyncio.Event()
        self.is_readable.set()
        self.delivered: list[int] = []
        self.log = EventLog(max_entries, max_bytes)
        self.fanout = Fanout(
            self.log,
            self.read_after,
            greeting=lambda: _GREETING,
            on_delivered=lambda entries: self.delivered.extend(entry.id.ms for entry in entries),
        )

    async def read_after(
        self, cursor: EntryId, count: int
    ) -> tuple[list[Entry], EntryId | None, EntryId]:
        self.reads += 1
        found = [entry for entry in self.stored if entry.id > cursor][:count]
        await self.is_readable.wait()
        if self.failure is not None:
            raise self.failure
        return found, found[-1].id if found else None, self.trimmed

    def load(self, *, low_watermark: EntryId = ORIGIN) -> None:
        entries = [LogEntry.encode(entry) for entry in self.stored if entry.id > low_watermark]
        last = self.stored[-1].id if self.stored else ORIGIN
        self.log.load(
            entries, low_watermark=low_watermark, last=last, is_complete=low_watermark == ORIGIN
        )
        self.fanout.schedule_flush()

    def append(self, *entries: Entry) -> None:
        """Store entries and read them into the log at once."""
        for entry in entries:
            if isinstance(entry, Deletion):
                self.stored = [each for each in self.stored if each.id != entry.target]
        self.stored += entries
        self.log.append(map(LogEntry.encode, entries), entries[-1].id)
        self.fanout.schedule_flush()

    def open(self, cursor: int | None = None, *, room: int = sys.maxsize) -> MemoryStream:
        stream = MemoryStream(self.fanout, None if cursor is None else EntryId(cursor, 0))
        stream.room = room
        self.fanout.open(stream)
        return stream


def message(number: int, text: str = "hello") -> Message:
    return Message(EntryId(number, 0), None, text, "pod-a")


def deletion(number: int, target: int) -> Deletion:
    return Deletion(EntryId(number, 0), EntryId(target, 0))


def filled(count: int, *, low_watermark: int = 0, text: str = "hello") -> Book:
    """A book of messages numbered from 1, of which the log has those after `low_watermark`."""
    book = Book()
    book.stored = [message(number, text) for number in range(1, count + 1)]
    book.load(low_watermark=EntryId(low_watermark, 0))
    return book


async def until(stream: MemoryStream, *ids: int) -> None:
    """Wait until a stream was sent these entries, and check that there are no others."""
    await eventually(lambda: stream.ids[-1:] == list(ids)[-1:], every=0.001)
    assert stream.ids == list(ids)


# Opening


async def test_cursor_in_memory_goes_live_with_what_it_missed() -> None:
    """Greeting and missed entries are one write; later entries follow."""
    book = filled(5)
    stream = book.open(3)
    assert stream.is_in(State.LIVE)
    assert len(stream.sent) == 1
    assert _CURSOR.findall(stream.data) == [b"3"]
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
    assert _CURSOR.findall(stream.data) == [b"5"]
    book.append(message(6))
    await until(stream, 6)


async def test_streams_wait_until_the_log_is_loaded() -> None:
    """Then one with a cursor is sent what it missed, and one without is reset."""
    book = Book()
    book.stored = [message(1), message(2)]
    behind, without = book.open(1), book.open()
    assert behind.is_in(State.WAITING)
    assert without.is_in(State.WAITING)
    assert _CURSOR.findall(behind.data) == [b"1"]
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
    """What is appended while events are gathered goes out together."""
    book = filled(1)
    stream = book.open()
    for number in range(2, 12):
        book.append(message(number))
    await until(stream, *range(2, 12))
    assert len(stream.sent) == 2


async def test_delivered_entries_are_reported_once() -> None:
    """In order, without those that were in memory before, and not while no stream is open."""
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
    # What was skipped is not counted as sent: 3, 4, 5 and 11 were.
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
    """Where it stood meanwhile does not matter when that has been dropped from memory."""
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
    """What it lacks stays in the log, whether it is much or little, until it has room again."""
    book = filled(20, text=_LONG)
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
    """A stream whose socket was full, or that waited, is sent the newest one alone."""
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
    """With room again it is sent everything that it missed, then goes live."""
    book = filled(1)
    full = book.open()
    full.room = 0
    book.append(message(2))
    await eventually(lambda: full.paused_at is not None)
    book.append(*(message(number, _LONG) for number in range(3, 20)))
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
    book.failure = ReplayUnavailableError()
    live, waiting = book.open(), book.open(99)
    full, ended, gone = book.open(room=0), book.open(5, room=0), book.open(room=0)
    await eventually(lambda: ended.is_finished)
    book.fanout.connection_lost(gone)
    pinging = asyncio.create_task(book.fanout.ping())
    await eventually(lambda: full.is_aborted and ended.is_aborted)
    await eventually(lambda: live.has_event("ping") and waiting.has_event("ping"))
    assert (full.end_reason, ended.end_reason) == ("stalled", "redis away")
    assert live.is_in(State.LIVE)
    assert waiting.is_in(State.WAITING)
    assert not gone.is_aborted
    pinging.cancel()
    await asyncio.gather(pinging, return_exceptions=True)


async def test_ping_leaves_streams_that_are_full_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They get it when they have room."""
    monkeypatch.setattr(fanout, "PING_SECONDS", 0.01)
    book = filled(1)
    live, full = book.open(), book.open(room=0)
    pinging = asyncio.create_task(book.fanout.ping())
    await eventually(lambda: live.has_event("ping"))
    assert not full.is_aborted
    full.make_room()
    await eventually(lambda: full.has_event("ping"))
    pinging.cancel()
    await asyncio.gather(pinging, return_exceptions=True)


# Catching up


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
    book = filled(20, text=_LONG)
    stream = book.open(0)
    assert stream.is_in(State.CATCHING_UP)
    await until(stream, *range(1, 21))
    assert book.reads == 0
    assert book.fanout.counts.replayed == {"memory": 20, "redis": 0}
    # Also where reading has just arrived there.
    book = filled(50, low_watermark=30, text=_LONG)
    await until(book.open(22), *range(23, 51))
    assert book.reads == 1
    assert book.fanout.counts.replayed == {"memory": 20, "redis": 8}


async def test_full_stream_that_catches_up_holds_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its client has not taken stays in memory, so that it gets no more until it reads."""
    monkeypatch.setattr(catchup, "_TURN_SECONDS", 0.001)
    book = filled(20, text=_LONG)
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
    """However many of them catch up and take nothing."""
    book = filled(20, low_watermark=10, text=_LONG)
    full = [book.open(0, room=0) for _ in range(20)]
    await until(book.open(0), *range(1, 21))
    assert all(stream.is_in(State.CATCHING_UP) for stream in full)


async def test_cursor_reached_by_catching_up_is_not_reset_by_an_older_answer() -> None:
    """Redis's newest id from before the read says nothing about what was read."""
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
    """What a client missed is not stored any more: it loads the list again."""
    book = filled(50, low_watermark=30)
    book.trimmed = EntryId(10, 0)
    stream = book.open(5)
    await until(stream, 50)
    assert stream.has_event("reset")
    complete = book.open(10)
    await until(complete, *range(11, 51))


@pytest.mark.parametrize(
    ("failure", "reason"), [(ReplayUnavailableError(), "redis away"), (ValueError(), "error")]
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
    book.append(*(message(number, _LONG) for number in range(2, 21)))
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
    book = filled(50, low_watermark=30, text=_LONG)
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


# Ends


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
    monkeypatch.setattr(fanout, "_FAREWELL_SECONDS", PATIENCE)
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
    assert book.fanout.count_from("10.0.0.1") == len(book.fanout) == 2
    book.fanout.connection_lost(first)
    book.fanout.connection_lost(first)
    assert book.fanout.count_from("10.0.0.1") == len(book.fanout) == 1
    book.fanout.connection_lost(second)
    assert book.fanout.count_from("10.0.0.1") == len(book.fanout) == 0
    assert book.fanout.counts.closed["client gone"] == 2
    assert book.fanout.counts.opened == 2


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
        text = _LONG if chance.random() < 0.2 else "hello"
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
    """Whatever is opened, written, deleted, full and read again, in whatever order."""
    asyncio.run(_live_through(seed))


@pytest.mark.slow
@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_more_orders(seed: int) -> None:
    """As above, with more of them."""
    asyncio.run(_live_through(seed))


async def test_reason_of_a_cut_is_counted_from_the_start() -> None:
    """A metric that appears only with its first event hides that event from `rate()`."""
    book = filled(1)
    known = set(book.fanout.counts.closed)
    stream = book.open(1)
    book.fanout.cut()
    book.fanout.connection_lost(stream)
    assert book.fanout.counts.closed["cut"] == 1
    assert set(book.fanout.counts.closed) == known
