"""The fan-out: open and close streams, and write every event to all of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import structlog

from guestbook.broadcast.catchup import CatchUp, is_lagging
from guestbook.broadcast.groups import Groups
from guestbook.broadcast.replay import ReadAfter
from guestbook.broadcast.stream import WRITE_BYTES, Counts, State, Stream, bye, first_event
from guestbook.core import EntryId, EventLog, LogEntry, sse

PING_SECONDS = 15.0
_STALLED_SECONDS = 45.0
# How long events are gathered before they go out: of many that are published at once, Redis
# returns the first alone.
_GATHER_SECONDS = 0.002
_FLUSH_SECONDS = 0.4

logger = structlog.get_logger(__name__)


class Fanout:
    """All open streams of this process.

    `greeting` returns the event with which a stream begins. `on_delivered` is called with entries
    that have been written to every stream that can be written to.
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
        self._greeting = greeting
        self._on_delivered = on_delivered
        self.counts = Counts()
        self.is_draining = False
        """Whether streams are being ended because the process stops; none is opened any more."""
        self._streams: set[Stream] = set()
        self._addresses: Counter[str] = Counter()
        # Indexes, so that an event need not look at every stream.
        self._groups = Groups(log, self.counts, self._abort)
        self._waiting: set[Stream] = set()
        self._paused: set[Stream] = set()
        self._catchup = CatchUp(
            log, read_after, self.counts, on_done=self._resume_at_cursor, on_failed=self._finish
        )
        self._is_scheduled = False
        self._delivered_position: int | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def count_streams_of(self, address: str) -> int:
        """Return how many streams an address has open."""
        return self._addresses[address]

    def set_pods(self, event: bytes) -> None:
        """Send a new `pods` event to every stream."""
        self._groups.set_pods(event)
        self.schedule_flush()

    async def ping(self) -> None:
        """Send a `ping` at its interval, and drop streams that take nothing. Never returns."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            self._groups.update(pings=1)
            for stream in self._waiting:
                stream.write(stream.frame(sse.PING))
            too_long_ago = time.monotonic() - _STALLED_SECONDS
            for stream in tuple(self._paused):
                if stream.paused_at is not None and stream.paused_at < too_long_ago:
                    self._abort(stream, "stalled")
            self.schedule_flush()

    def schedule_flush(self) -> None:
        """Bring all streams up to date soon, once for all that happens until then."""
        if not self._streams:
            self._skip_delivered()
        elif not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        for stream in tuple(self._paused):
            if stream.state is State.LIVE and stream.position.entries < self._log.start:
                self._abort(stream, "slow")
        for stream in tuple(self._waiting):
            self._resume_at_cursor(stream)
        if not self._groups.flush():
            # Let other callbacks run in between.
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)
        self._report_delivered()

    def _report_delivered(self) -> None:
        before, reached = self._delivered_position, self._groups.min_position
        if before is None or reached is None:
            # Entries from before the process started were delivered long ago.
            self._skip_delivered()
        elif reached > before:
            self._on_delivered(self._log.between(before, reached))
            self._delivered_position = reached

    def _skip_delivered(self) -> None:
        self._delivered_position = self._log.end if self._log.is_loaded else None

    def reset(self) -> None:
        """Have the clients of live streams load the list again: the log was replaced."""
        self._groups.update()
        self._delivered_position = self._groups.newest.entries
        for stream in self._groups.skip_to_newest():
            self._write_reset(stream)
        self.schedule_flush()

    def reset_lost_cursors(self, last: EntryId, asked_at: float) -> None:
        """Reset the streams with a cursor in data that Redis has lost.

        `last` was Redis's newest id at some time after `asked_at`.
        """
        for stream in tuple(self._waiting):
            cursor = stream.cursor
            if self._log.is_loaded and stream.cursor_at < asked_at and cursor and cursor > last:
                self._reset(stream)

    # One stream, from opening it to its end

    def open(self, stream: Stream) -> None:
        """Add a stream: from now on it gets every event after its cursor."""
        self._streams.add(stream)
        self._addresses[stream.address] += 1
        self.counts.opened += 1
        self._groups.update()
        stream.position = self._groups.newest
        if stream.cursor is None and self._log.is_loaded:
            stream.cursor = self._log.last
        data = first_event(self._greeting(), stream.cursor)
        if self.is_draining:
            stream.write(stream.frame(data))
            self._finish(stream, "drain", bye())
        elif (start := self._find(stream.cursor)) is not None:
            # Missed entries are sent with the greeting: one packet instead of two.
            missed, end = self._log.frames(start, WRITE_BYTES)
            stream.write(stream.frame(data + missed))
            self.counts.replayed["memory"] += end - start
            self._go_live(stream, start, end)
        else:
            stream.write(stream.frame(data))
            self._resume_at_cursor(stream)

    def _resume_at_cursor(self, stream: Stream) -> None:
        """Choose the state of a stream by where its cursor is."""
        cursor = stream.cursor
        start = self._find(cursor)
        if start is not None:
            self._go_live(stream, start, start)
        elif not self._log.is_loaded or (cursor is not None and cursor > self._log.last):
            self._move_to(stream, State.WAITING)
        elif cursor is None or self._log.is_outdated(cursor):
            # It opened before the log was loaded, or its cursor has been trimmed or replaced.
            self._reset(stream)
        else:
            self.counts.replays["redis"] += 1
            self._move_to(stream, State.CATCHING_UP)

    def _find(self, cursor: EntryId | None) -> int | None:
        """Return the position after a cursor, if the log has everything from there on."""
        log = self._log
        if not log.is_loaded or cursor is None or not log.low_watermark <= cursor <= log.last:
            return None
        if log.is_outdated(cursor):
            return None
        return log.position_after(cursor)

    def _go_live(self, stream: Stream, start: int, end: int) -> None:
        """Go live at `end`; the entries from `start` on have just been written."""
        self.counts.replays["memory"] += start < self._log.end
        stream.live_from = start
        if end != stream.position.entries:
            stream.position = stream.position._replace(entries=end)
        self.counts.delivered += end - start
        self._move_to(stream, State.LIVE)
        self._advance(stream)

    def _advance(self, stream: Stream) -> None:
        """Bring a live stream that is in no group up to date, if its socket has room."""
        if stream.state is not State.LIVE or stream.group or stream.paused_at is not None:
            return
        position = stream.position.entries
        if position < self._log.start:
            self._abort(stream, "slow")
        elif is_lagging(self._log, position):
            stream.cursor = self._log.id_before(position)
            self._move_to(stream, State.CATCHING_UP)
        else:
            self._groups.update()
            if stream.position != self._groups.newest:
                framed, stream.position = self._groups.after(type(stream), stream.position)
                self.counts.delivered += stream.position.entries - position
                self.counts.replayed["memory"] += stream.position.entries - position
                if framed:
                    stream.write(framed)
            if stream.paused_at is None:
                self._groups.join(stream)

    def _reset(self, stream: Stream) -> None:
        self._groups.update()
        self._write_reset(stream)
        self._go_live(stream, self._groups.newest.entries, self._groups.newest.entries)

    def _write_reset(self, stream: Stream) -> None:
        self.counts.resets += 1
        event = sse.event(b"{}", id=str(self._log.last), name="reset")
        stream.write(stream.frame(event))

    def _move_to(self, stream: Stream, state: State) -> None:
        """Change the state of a stream. Nothing else does."""
        if stream.state is State.WAITING:
            self._waiting.discard(stream)
        elif stream.state is State.CATCHING_UP:
            self._catchup.stop(stream)
        elif stream.state is State.LIVE:
            self._groups.leave(stream)
            stream.entries += stream.position.entries - stream.live_from
        stream.state = state
        if state is State.WAITING:
            self._waiting.add(stream)
        elif state is State.CATCHING_UP:
            self._catchup.start(stream)

    def pause(self, stream: Stream) -> None:
        """Pause a stream, because its socket is full."""
        stream.paused_at = time.monotonic()
        self._paused.add(stream)
        self._groups.leave(stream)

    def resume(self, stream: Stream) -> None:
        """Continue with a stream that can be written to again."""
        stream.paused_at = None
        self._paused.discard(stream)
        if stream.state is State.CATCHING_UP:
            self._catchup.resume(stream)
        else:
            asyncio.get_running_loop().call_soon(self._advance, stream)

    def connection_lost(self, stream: Stream) -> None:
        """Remove a stream that has lost its connection."""
        if stream not in self._streams:
            return
        self._close(stream, "client gone")
        self._streams.discard(stream)
        self._paused.discard(stream)
        self._addresses[stream.address] -= 1
        if not self._addresses[stream.address]:
            del self._addresses[stream.address]
        self.counts.closed[stream.end_reason] += 1
        logger.info(
            "stream ended",
            request_id=stream.request_id,
            reason=stream.end_reason,
            seconds=round(time.monotonic() - stream.opened_at, 3),
            entries=stream.entries,
            address=stream.address,
        )

    def _close(self, stream: Stream, reason: str) -> None:
        stream.end_reason = stream.end_reason or reason
        self._move_to(stream, State.CLOSED)

    def _abort(self, stream: Stream, reason: str) -> None:
        """Cut a stream off; its client reconnects with its cursor."""
        self._close(stream, reason)
        stream.abort()

    def _finish(self, stream: Stream, reason: str, last_event: bytes = b"") -> None:
        """End a stream properly."""
        self._close(stream, reason)
        if last_event:
            stream.write(stream.frame(last_event))
        stream.finish()

    def cut(self) -> None:
        """Cut all streams, as a failing network does; their clients reconnect."""
        for stream in tuple(self._streams):
            self._abort(stream, "cut")

    async def drain(self, seconds: float) -> None:
        """Refuse new streams, and end the open ones, spread over `seconds`."""
        self.is_draining = True
        started = time.monotonic()
        streams = list(self._streams)
        random.shuffle(streams)
        for number, stream in enumerate(streams, start=1):
            ahead = started + seconds * number / len(streams) - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            if stream.state is not State.CLOSED:
                self._finish(stream, "drain", bye())
        await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
        # Clients that are slow to take the end of their streams get a moment more.
        until = time.monotonic() + _FLUSH_SECONDS
        while self._streams and time.monotonic() < until:  # noqa: ASYNC110  # some dozen turns
            await asyncio.sleep(0.01)
        for stream in tuple(self._streams):
            stream.abort()
