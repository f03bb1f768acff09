"""Every event to every open stream: the groups of streams, and the loop that writes to them."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import structlog

from guestbook.broadcast.replay import ReadAfter, Replay, ReplayUnavailableError
from guestbook.core import EntryId, EventLog, LogEntry, sse

PING_SECONDS = 15.0
_STALLED_SECONDS = 45.0
_GROUP_SIZE = 128
_WRITE_BYTES = 64 * 1024
_CHUNKS_KEPT = 16
# How long the fan-out may hold the event loop before others get a turn.
_SLICE_SECONDS = 0.0015
# How long events are gathered before they go out: of many that are published at once, Redis gives
# the first alone.
_GATHER_SECONDS = 0.002
# Who lacks more than one write is given it in turns: what clients do not take is kept for few.
_TURNS_AT_ONCE = 8
# How long a client that does not take what it was given may keep others from their turn.
_TURN_SECONDS = 0.1
# How long the process waits for slow clients to take the end of their streams.
_FAREWELL_SECONDS = 0.4
# A client's first wait before it reconnects; chosen at random, so that they do not come as one.
_RETRY_MS = (500, 3000)

# Why streams end, why they are refused, and where what they missed comes from.
_ENDS = ("client gone", "slow", "stalled", "drain", "redis away", "error")
_REFUSALS = ("drain", "limit", "address limit")
_SOURCES = ("memory", "redis")

logger = structlog.get_logger(__name__)


class Position(NamedTuple):
    """What a stream has been given: records of the log; which `pods` event, and which ping."""

    record: int
    pods: int
    ping: int


class Stream(ABC):
    """One open stream: where it stands in the log, and how it is written to.

    Whoever implements it tells the fan-out when its buffer is not empty (`pause`), is empty
    again (`resume`), and when its connection is gone (`leave`).
    """

    __slots__ = (
        "address",
        "cursor",
        "cursor_at",
        "ended",
        "given",
        "group",
        "is_placed",
        "opened_at",
        "paused_at",
        "position",
        "request_id",
    )

    position: Position
    send: Callable[[bytes | memoryview], int]
    """Sends of what `frame` made as much as can be sent at once; gives how many bytes that is.

    Raises OSError if that is none. An attribute, so that no call stands in between.
    """

    def __init__(self, address: str, cursor: EntryId | None, request_id: str = "") -> None:
        # Behind a load balancer all have the same.
        self.address = sys.intern(address)
        self.cursor = cursor
        self.request_id = request_id
        self.ended = ""
        self.given = 0
        """How many entries it was given; once it is placed, less the record where it stands."""
        self.group: Group | None = None
        self.opened_at = self.cursor_at = time.monotonic()
        """When it was opened; when it got its cursor."""
        self.paused_at: float | None = None
        self.is_placed = False
        """Whether `position` says where it stands: not while it waits or takes turns."""

    @property
    def received(self) -> int:
        """How many entries it was given: told by where it stands, so that no write counts."""
        return self.given + self.position.record if self.is_placed else self.given

    @staticmethod
    @abstractmethod
    def frame(data: bytes) -> bytes:
        """Makes of events what `write` takes."""

    @abstractmethod
    def write(self, framed: bytes | memoryview) -> None:
        """Sends what `frame` made, or buffers it."""

    @abstractmethod
    def finish(self) -> None:
        """Ends the response properly, after all that has been written."""

    @abstractmethod
    def abort(self) -> None:
        """Cuts the connection, whatever is still to be sent."""


class Group:
    """Streams of one class that stand at one position, and so get the same bytes."""

    __slots__ = ("kind", "position", "streams")

    def __init__(self, kind: type[Stream], position: Position) -> None:
        self.kind = kind
        self.position = position
        self.streams: dict[Stream, Callable[[bytes | memoryview], int]] = {}

    def takes(self, stream: Stream) -> bool:
        """Whether a stream stands where this group does, and there is room for it."""
        return (
            self.position == stream.position
            and self.kind is type(stream)
            and len(self.streams) < _GROUP_SIZE
        )


class Fanout:
    """All open streams of this process. Nothing here knows HTTP.

    A stream waits (for the log to reach its cursor), takes turns (with others that lack much, or
    what only Redis has), or has its place in the log: it catches up, and stands with a group. At
    any time it may be paused, because its socket is full.

    `greeting` makes the event with which a stream begins; `on_delivered` is called with records
    that have now been written to every stream that can be written to.
    """

    def __init__(
        self,
        log: EventLog,
        read_after: ReadAfter,
        *,
        greeting: Callable[[], bytes],
        on_delivered: Callable[[list[LogEntry]], None],
    ) -> None:
        self._log = log
        self._replay = Replay(read_after, log)
        self._greeting = greeting
        self._on_delivered = on_delivered
        self._streams: set[Stream] = set()
        self._groups: deque[Group] = deque()
        self._joined: Group | None = None
        self._paused: set[Stream] = set()
        self._waiting: set[Stream] = set()
        self._takers: dict[Stream, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_TURNS_AT_ONCE)
        self._writable: dict[Stream, asyncio.Future[None]] = {}
        self._addresses: Counter[str] = Counter()
        self._pods_event = b""
        self._pods = 0
        self._ping = 0
        self._now = Position(log.end, 0, 0)
        self._chunks: dict[tuple[type[Stream], Position], tuple[bytes, Position]] = {}
        self._is_awake = False
        self._told: int | None = None
        self.is_draining = False
        """Whether streams are being closed because the process stops; none is opened any more."""
        # What has happened since the process began, for who counts it.
        self.opened = 0
        self.closed = Counter(dict.fromkeys(_ENDS, 0))
        """How many streams have ended, by reason."""
        self.refused = Counter(dict.fromkeys(_REFUSALS, 0))
        """How many streams were not opened, by reason."""
        self.resets = 0
        """How many streams were told to load the list again."""
        self.delivered = 0
        """How many entries were written, counted for each stream."""
        self.replays = Counter(dict.fromkeys(_SOURCES, 0))
        self.replayed = Counter(dict.fromkeys(_SOURCES, 0))
        """How many streams had missed something, and how many entries were not given live, by
        source."""

    def __len__(self) -> int:
        return len(self._streams)

    def held_by(self, address: str) -> int:
        """How many streams an address has open."""
        return self._addresses[address]

    # What happens to all streams

    def set_pods(self, event: bytes) -> None:
        """Sends a new `pods` event to everybody."""
        self._pods_event = event
        self._pods += 1
        self.wake()

    async def ping(self) -> None:
        """Sends everybody a `ping` at its interval, and drops who takes nothing. Never returns."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            self._ping += 1
            for stream in self._waiting:
                stream.write(stream.frame(sse.PING))
            too_long_ago = time.monotonic() - _STALLED_SECONDS
            for stream in tuple(self._paused):
                if stream.paused_at is not None and stream.paused_at < too_long_ago:
                    self._drop(stream, "stalled")
            self.wake()

    def wake(self) -> None:
        """Has all streams brought up to date, once for all that happens in this moment."""
        if not self._streams:
            self._told = self._log.end if self._log.is_loaded else None
        elif not self._is_awake:
            self._is_awake = True
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_awake = False
        self._look()
        for stream in tuple(self._paused):
            if stream.is_placed and stream.position.record < self._log.start:
                self._drop(stream, "slow")
        for stream in tuple(self._waiting):
            self._place(stream)
        deadline = time.monotonic() + _SLICE_SECONDS
        for _ in range(len(self._groups)):
            group = self._groups[0]
            self._groups.rotate(-1)
            if group.position != self._now:
                self._push(group)
                if group.position != self._now or time.monotonic() > deadline:
                    # The others get their turn, and then it goes on at once.
                    self._is_awake = True
                    asyncio.get_running_loop().call_soon(self._flush)
                    break
        self._tell_delivered()

    def _tell_delivered(self) -> None:
        # The group whose turn is next has waited longest: no other is further back.
        reached = self._groups[0].position.record if self._groups else self._log.end
        if self._told is None:
            # What was there when the process began was delivered long ago.
            self._told = self._log.end if self._log.is_loaded else None
        elif reached > self._told:
            if self._groups:
                self._on_delivered(self._log.between(self._told, reached))
            self._told = reached

    def _look(self) -> None:
        now = self._now
        if (self._log.end, self._pods, self._ping) != now:
            self._now = Position(self._log.end, self._pods, self._ping)
            self._chunks.clear()

    def _push(self, group: Group) -> None:
        if not group.streams:
            self._groups.remove(group)
            if self._joined is group:
                self._joined = None
            return
        if group.position.record < self._log.start:
            for stream in tuple(group.streams):
                self._drop(stream, "slow")
            return
        # Whoever pauses while it is written to has been given this chunk.
        before = group.position.record
        framed, group.position = self._chunk(group.kind, group.position)
        self.delivered += (group.position.record - before) * len(group.streams)
        if not framed:
            return
        # Who cannot take it all leaves the group.
        short: list[tuple[Stream, int]] = []
        size = len(framed)
        for stream, send in group.streams.items():
            try:
                sent = send(framed)
            except OSError:
                sent = 0
            if sent != size:
                short.append((stream, sent))
        for stream, sent in short:
            stream.write(memoryview(framed)[sent:])

    def _chunk(self, kind: type[Stream], position: Position) -> tuple[bytes, Position]:
        """What comes after a position, framed once for everybody who stands there."""
        known = self._chunks.get((kind, position))
        if known is None:
            data, record = self._log.frames(position.record, _WRITE_BYTES)
            if position.pods != self._now.pods:
                data += self._pods_event
            if position.ping != self._now.ping:
                data += sse.PING
            framed = kind.frame(data) if data else b""
            known = framed, Position(record, self._now.pods, self._now.ping)
            if len(self._chunks) >= _CHUNKS_KEPT:
                self._chunks.clear()
            self._chunks[kind, position] = known
        return known

    def reset(self) -> None:
        """The log was filled anew: everybody in a group is told to load the list again."""
        self._look()
        self._told = self._now.record
        for group in self._groups:
            skipped = self._now.record - group.position.record
            group.position = self._now
            for stream in tuple(group.streams):
                stream.given -= skipped
                self._write_reset(stream)
        self.wake()

    def confirm(self, last: EntryId, asked_at: float) -> None:
        """Redis's newest id was `last` at some time after `asked_at`.

        A cursor beyond it is of data that Redis has lost.
        """
        for stream in tuple(self._waiting):
            cursor = stream.cursor
            if self._log.is_loaded and stream.cursor_at < asked_at and cursor and cursor > last:
                self._reset(stream)

    # What happens to one stream

    def open(self, stream: Stream) -> None:
        """Takes a stream whose response has begun; from now on it gets every event."""
        self._streams.add(stream)
        self._addresses[stream.address] += 1
        self.opened += 1
        self._look()
        stream.position = self._now
        if stream.cursor is None and self._log.is_loaded:
            stream.cursor = self._log.last
        data = sse.comment("guestbook") + _retry() + b"\n" + self._greeting()
        if self.is_draining:
            stream.write(stream.frame(data))
            self._end(stream, "drain", _bye())
        elif self._has(stream.cursor):
            # What it missed goes out with the greeting: as one packet instead of two.
            record = self._find(stream.cursor)
            missed, reached = self._log.frames(record, _WRITE_BYTES)
            stream.write(stream.frame(data + missed))
            self.replayed["memory"] += reached - record
            self._settle(stream, record, reached)
        else:
            stream.write(stream.frame(data))
            self._place(stream)

    def _has(self, cursor: EntryId | None) -> TypeGuard[EntryId]:
        """Whether the log has everything after a cursor."""
        log = self._log
        return log.is_loaded and cursor is not None and log.low_watermark <= cursor <= log.last

    def _find(self, cursor: EntryId) -> int:
        """The position after a cursor that the log has."""
        record = self._log.position_after(cursor)
        self.replays["memory"] += record < self._log.end
        return record

    def _place(self, stream: Stream) -> None:
        self._waiting.discard(stream)
        cursor = stream.cursor
        if self._has(cursor):
            record = self._find(cursor)
            self._settle(stream, record, record)
        elif not self._log.is_loaded or (cursor is not None and cursor > self._log.last):
            self._waiting.add(stream)
        elif cursor is None:
            # It came before the log was filled: what it missed meanwhile is not known.
            self._reset(stream)
        else:
            self.replays["redis"] += 1
            self._queue(stream)

    def _settle(self, stream: Stream, record: int, reached: int) -> None:
        """The stream began at a record, and has been given what comes before another."""
        if reached != stream.position.record:
            stream.position = stream.position._replace(record=reached)
        stream.given -= record
        stream.is_placed = True
        self.delivered += reached - record
        self._advance(stream)

    def _advance(self, stream: Stream) -> None:
        """Gives a stream outside the groups what it lacks, if its socket takes it."""
        is_out = stream.is_placed and stream.group is None
        if not is_out or stream.paused_at is not None or stream.ended:
            return
        if stream.position.record < self._log.start:
            self._drop(stream, "slow")
        elif self._lacks_much(stream.position.record):
            stream.cursor = self._log.id_before(stream.position.record)
            stream.given += stream.position.record
            stream.is_placed = False
            self._queue(stream)
        else:
            self._look()
            if stream.position != self._now:
                before = stream.position.record
                framed, stream.position = self._chunk(type(stream), stream.position)
                self.delivered += stream.position.record - before
                self.replayed["memory"] += stream.position.record - before
                if framed:
                    stream.write(framed)
            if stream.paused_at is None:
                self._join(stream)

    def _lacks_much(self, record: int) -> bool:
        end = self._log.end
        return record < end and record + len(self._log.some(record, _WRITE_BYTES)) < end

    def _join(self, stream: Stream) -> None:
        # Many come one after the other: there is most often room where the last one went.
        group = self._joined
        if group is None or not group.takes(stream):
            group = next((group for group in self._groups if group.takes(stream)), None)
        if group is None:
            group = Group(type(stream), stream.position)
            self._groups.append(group)
        self._joined = group
        group.streams[stream] = stream.send
        stream.group = group

    def _queue(self, stream: Stream) -> None:
        self._takers[stream] = asyncio.create_task(self._take_turns(stream))

    async def _take_turns(self, stream: Stream) -> None:
        """Gives a stream what it lacks, bit by bit, until the log has the rest and it is little."""
        try:
            while stream.cursor is not None and self._is_far_behind(stream.cursor):
                async with self._turns:
                    await self._give(stream, stream.cursor)
                    # Most often nothing has been waited for: others are to have their turn too.
                    await asyncio.sleep(0)
                    await self._until_writable(stream, within=_TURN_SECONDS)
                await self._until_writable(stream)
            del self._takers[stream]
            self._place(stream)
        except ReplayUnavailableError:
            # Its cursor is still true: it comes back, here or to a pod whose log reaches it.
            del self._takers[stream]
            self._end(stream, "redis away")
        except Exception:
            logger.exception("a stream could not be given what it lacks")
            self._takers.pop(stream, None)
            self._end(stream, "error")
        finally:
            if not self._takers:
                self._replay.forget()

    def _is_far_behind(self, cursor: EntryId) -> bool:
        log = self._log
        return cursor < log.low_watermark or self._lacks_much(log.position_after(cursor))

    async def _give(self, stream: Stream, cursor: EntryId) -> None:
        source = "redis" if cursor < self._log.low_watermark else "memory"
        stretch = await self._replay.after(cursor, stream.frame)
        if stretch is None:
            # What it missed is not kept: from here it is as one that has no cursor.
            stream.cursor = None
            return
        stream.cursor = stretch.reached
        stream.cursor_at = time.monotonic()
        missed, count = stretch.beyond(cursor)
        if missed:
            stream.write(missed)
        stream.given += count
        self.delivered += count
        self.replayed[source] += count

    async def _until_writable(self, stream: Stream, within: float | None = None) -> None:
        if stream.paused_at is not None:
            writable = self._writable.get(stream)
            if writable is None:
                writable = asyncio.get_running_loop().create_future()
                self._writable[stream] = writable
            await asyncio.wait((writable,), timeout=within)

    def _reset(self, stream: Stream) -> None:
        self._waiting.discard(stream)
        self._look()
        self._write_reset(stream)
        self._settle(stream, self._now.record, self._now.record)

    def _write_reset(self, stream: Stream) -> None:
        self.resets += 1
        event = sse.event(b"{}", id=str(self._log.last), name="reset")
        stream.write(stream.frame(event))

    def pause(self, stream: Stream) -> None:
        """The stream's buffer is not empty: it gets nothing more until it is."""
        stream.paused_at = time.monotonic()
        self._paused.add(stream)
        self._leave_group(stream)

    def resume(self, stream: Stream) -> None:
        """The stream's buffer is empty: it catches up from the log."""
        stream.paused_at = None
        self._paused.discard(stream)
        writable = self._writable.pop(stream, None)
        if writable is not None and not writable.done():
            writable.set_result(None)
        elif stream.is_placed:
            asyncio.get_running_loop().call_soon(self._advance, stream)

    def leave(self, stream: Stream, reason: str) -> None:
        """The stream's connection is gone."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        self._forget(stream)
        self._addresses[stream.address] -= 1
        if not self._addresses[stream.address]:
            del self._addresses[stream.address]
        stream.ended = stream.ended or reason
        self.closed[stream.ended] += 1
        logger.info(
            "stream ended",
            request_id=stream.request_id,
            reason=stream.ended,
            seconds=round(time.monotonic() - stream.opened_at, 3),
            entries=stream.received,
            address=stream.address,
        )

    def _forget(self, stream: Stream) -> None:
        """Nothing more is sent to this stream."""
        self._leave_group(stream)
        self._paused.discard(stream)
        self._waiting.discard(stream)
        self._writable.pop(stream, None)
        turns = self._takers.pop(stream, None)
        if turns is not None:
            turns.cancel()

    def _leave_group(self, stream: Stream) -> None:
        if stream.group is not None:
            stream.position = stream.group.position
            del stream.group.streams[stream]
            stream.group = None

    def _drop(self, stream: Stream, reason: str) -> None:
        """Cuts a stream off; its client comes back with its cursor."""
        stream.ended = stream.ended or reason
        self._forget(stream)
        stream.abort()

    def _end(self, stream: Stream, reason: str, farewell: bytes = b"") -> None:
        """Ends a stream properly."""
        stream.ended = reason
        self._forget(stream)
        if farewell:
            stream.write(stream.frame(farewell))
        stream.finish()

    def cut(self) -> None:
        """Cuts all streams, as a network does that fails; their clients come back."""
        for stream in tuple(self._streams):
            self._drop(stream, "cut")

    async def drain(self, seconds: float) -> None:
        """Ends all streams, spread over `seconds`; refuses new ones from now on."""
        self.is_draining = True
        started = time.monotonic()
        streams = list(self._streams)
        random.shuffle(streams)
        for number, stream in enumerate(streams, start=1):
            ahead = started + seconds * number / len(streams) - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            if stream in self._streams:
                self._end(stream, "drain", _bye())
        await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
        await self._cut_off_after(_FAREWELL_SECONDS)

    async def _cut_off_after(self, seconds: float) -> None:
        """Cuts the streams whose clients have not taken their end by then."""
        until = time.monotonic() + seconds
        while self._streams and time.monotonic() < until:  # noqa: ASYNC110  # some dozen turns
            await asyncio.sleep(0.01)
        for stream in tuple(self._streams):
            self._drop(stream, "drain")


def _retry() -> bytes:
    return sse.retry(int(random.uniform(*_RETRY_MS)))  # noqa: S311  # jitter


def _bye() -> bytes:
    return _retry() + sse.event(b"{}", name="bye")
