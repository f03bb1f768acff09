"""The one task of a process that follows the stream, and fills the log from it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import TypedDict

import structlog

from guestbook.core import ORIGIN, Deletion, EntryId, EventLog, LogEntry
from guestbook.storage import REDIS_ERRORS, Store, explain

BLOCK_MS = 1000
_PAGE = 500
_PAUSE = 0.1
# A turn of the loop takes at most a blocking read, its time-out and a pause: a few seconds.
_STUCK_AFTER = 15.0
# A connection that is lost and made again at once is nobody's concern.
_BEHIND_AFTER = 1.0

logger = structlog.get_logger(__name__)


class _Newest(TypedDict):
    entries: list[LogEntry]
    low_watermark: EntryId
    last: EntryId
    is_complete: bool


class Follower:
    """Reads on from the log's last id, for as long as the process lives.

    `on_entries` is called when the log got more, `on_break` when it was filled anew, so that
    what streams were at is gone, `on_lost` when Redis went away.
    """

    def __init__(
        self,
        store: Store,
        log: EventLog,
        *,
        on_entries: Callable[[], None],
        on_break: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._store = store
        self._log = log
        self._on_entries = on_entries
        self._on_break = on_break
        self._on_lost = on_lost
        self._is_stale = True
        self._is_doubtful = False
        self._turned_at = time.monotonic()
        self._is_connected = False
        self._lost_at = self._turned_at
        self._is_woken = False
        self._waiting: asyncio.Timeout | None = None

    @property
    def is_behind(self) -> bool:
        """Whether the stream has not been read for so long that what is served is old."""
        return not self._is_connected and time.monotonic() - self._lost_at > _BEHIND_AFTER

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has stopped turning: such a process is deaf and must be restarted."""
        return time.monotonic() - self._turned_at > _STUCK_AFTER

    def mark_stale(self) -> None:
        """Has the log filled anew: Redis's data is not what it was."""
        self._is_stale = True

    def verify_after_reconnect(self) -> None:
        """The connection is new: what is at its other end may be another server."""
        self._is_doubtful = True

    def wake(self) -> None:
        """Read again at once: Redis is back, and the answer awaited may never come."""
        self._is_woken = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Never returns."""
        while True:
            self._turned_at = time.monotonic()
            self._is_woken = False
            await self._read_on()

    @contextlib.asynccontextmanager
    async def _until_woken(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None) as self._waiting:
                yield
        finally:
            self._waiting = None

    async def _read_on(self) -> None:
        """One turn: a read that waits for something new, or a pause where none is possible."""
        try:
            async with self._until_woken():
                if self._is_stale:
                    await self._load()
                await self._read()
            self._is_connected = True
        except REDIS_ERRORS as error:
            if self._is_woken:
                return
            self._note_loss(error)
            await asyncio.sleep(_PAUSE * random.uniform(1, 3))  # noqa: S311  # jitter

    def _note_loss(self, error: Exception) -> None:
        if self._is_connected:
            logger.warning("the stream cannot be read", error=explain(error))
            self._lost_at = time.monotonic()
        self._is_connected = False
        self._on_lost()

    async def _read(self) -> None:
        # That the connection is there is known with the first answer: that one is not waited for.
        block_ms = BLOCK_MS if self._is_connected else 1
        page, trimmed = await self._store.read(self._log.last, count=_PAGE, block_ms=block_ms)
        if self._is_doubtful and not await self._verify_continuity():
            # After a fail-over the newest may be gone, while others are newer than they were.
            logger.warning("Redis lacks what was read last: reading it anew")
            self._is_stale = True
            return
        if trimmed > max(self._log.last, self._log.low_watermark):
            # More was stored and trimmed than this process has seen: what lies between is gone.
            logger.warning("the stream was trimmed past the reader", trimmed=str(trimmed))
            self._is_stale = True
            return
        self._log.trim_to(trimmed)
        if page.reached is not None:
            self._log.append(map(LogEntry.encode, page.entries), page.reached)
            self._on_entries()

    async def _verify_continuity(self) -> bool:
        """Whether Redis has what was read last, or tells where it has gone."""
        last = self._log.last
        self._is_doubtful = False
        if last == ORIGIN:
            return True
        cursor: EntryId | None = last.before()
        try:
            while cursor is not None:
                page, trimmed = await self._store.replay(cursor, _PAGE)
                if trimmed >= last or any(
                    entry.id == last or (isinstance(entry, Deletion) and entry.target == last)
                    for entry in page.entries
                ):
                    return True
                cursor = page.reached
        except BaseException:
            self._is_doubtful = True
            raise
        return False

    async def _load(self) -> None:
        self._is_stale = self._is_doubtful = False
        try:
            loaded = await self._newest()
            trimmed = await self._store.trimmed()
        except BaseException:
            self._is_stale = True
            raise
        was_loaded = self._log.is_loaded
        self._log.load(**loaded)
        self._log.trim_to(trimmed)
        logger.info("read the stream", entries=len(loaded["entries"]), last=str(loaded["last"]))
        if was_loaded:
            self._on_break()
        else:
            self._on_entries()

    async def _newest(self) -> _Newest:
        """As many of the newest entries as the log holds, oldest first."""
        # What is stored or deleted from here on comes with the first read.
        last = await self._store.last()
        before: EntryId | None = last.after()
        entries: list[LogEntry] = []
        size = 0
        while before is not None and size < self._log.max_bytes:
            if len(entries) > self._log.max_entries:
                break
            page = await self._store.older(before, _PAGE)
            before = page.reached
            for entry in page.entries:
                entries.append(LogEntry.encode(entry))
                size += len(entries[-1].frame)
        floor = ORIGIN if before is None else before.before()
        whole = before is None
        return {
            "entries": entries[::-1],
            "low_watermark": floor,
            "last": last,
            "is_complete": whole,
        }
