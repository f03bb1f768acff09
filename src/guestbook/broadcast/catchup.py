"""Catching up: streams that are far behind take turns, batch by batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from guestbook.broadcast.replay import ReadAfter, Replay
from guestbook.broadcast.stream import WRITE_BYTES, Counts, Stream
from guestbook.core import EntryId, EventLog, UnavailableError

# A batch stays in memory until its client has read it, so only some streams catch up at a time.
_MAX_CONCURRENT = 8
# How long a slow client may delay the others.
_TURN_SECONDS = 0.1

logger = structlog.get_logger(__name__)


def is_lagging(log: EventLog, position: int) -> bool:
    """Return whether a stream at a position in the log lacks more than one write."""
    return position < log.end and position + len(log.read(position, WRITE_BYTES)) < log.end


class CatchUp:
    """One task for each stream that catches up, from its cursor on.

    `on_done` is called with a stream that has caught up (or has the cursor None, because its
    cursor was trimmed), `on_failed` with one that cannot continue, and the reason.
    """

    def __init__(
        self,
        log: EventLog,
        read_after: ReadAfter,
        counts: Counts,
        *,
        on_done: Callable[[Stream], None],
        on_failed: Callable[[Stream, str], None],
    ) -> None:
        self._log = log
        self._replay = Replay(log, read_after)
        self._counts = counts
        self._on_done = on_done
        self._on_failed = on_failed
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._writable: dict[Stream, asyncio.Future[None]] = {}
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    def start(self, stream: Stream) -> None:
        """Start to write the missing entries to a stream."""
        self._tasks[stream] = asyncio.create_task(self._run(stream))

    def stop(self, stream: Stream) -> None:
        """Stop writing to a stream."""
        task = self._forget(stream)
        if task is not None:
            task.cancel()

    def resume(self, stream: Stream) -> None:
        """Continue with a stream that can be written to again."""
        writable = self._writable.pop(stream, None)
        if writable is not None:
            writable.set_result(None)

    def _forget(self, stream: Stream) -> asyncio.Task[None] | None:
        task = self._tasks.pop(stream, None)
        self._writable.pop(stream, None)
        if not self._tasks:
            self._replay.clear()
        return task

    async def _run(self, stream: Stream) -> None:
        try:
            await self._catch_up(stream)
            self._forget(stream)
            self._on_done(stream)
        except UnavailableError:
            # Its cursor is still right: its client comes back with it, here or to another pod.
            self._fail(stream, "redis away")
        except Exception:
            logger.exception("a stream could not catch up")
            self._fail(stream, "error")

    def _fail(self, stream: Stream, reason: str) -> None:
        self._forget(stream)
        self._on_failed(stream, reason)

    async def _catch_up(self, stream: Stream) -> None:
        while stream.cursor is not None and self._is_behind(stream.cursor):
            async with self._slots:
                await self._write_batch(stream, stream.cursor)
                # Mostly nothing was waited for: let others have their turn.
                await asyncio.sleep(0)
                await self._until_writable(stream, within=_TURN_SECONDS)
            await self._until_writable(stream)

    def _is_behind(self, cursor: EntryId) -> bool:
        log = self._log
        return cursor < log.low_watermark or is_lagging(log, log.position_after(cursor))

    async def _write_batch(self, stream: Stream, cursor: EntryId) -> None:
        source = "redis" if cursor < self._log.low_watermark else "memory"
        batch = await self._replay.after(cursor, stream.frame)
        if batch is None:
            # The missing entries were trimmed: continue as without a cursor.
            stream.cursor = None
            return
        stream.cursor = batch.reached
        stream.cursor_at = time.monotonic()
        missed, count = batch.frames_after(cursor)
        if missed:
            stream.write(missed)
        stream.entries += count
        self._counts.delivered += count
        self._counts.replayed[source] += count

    async def _until_writable(self, stream: Stream, within: float | None = None) -> None:
        if stream.paused_at is not None:
            writable = self._writable[stream] = asyncio.get_running_loop().create_future()
            await asyncio.wait((writable,), timeout=within)
