"""The task that follows the stream in Redis, and keeps the log up to date."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

import structlog

from guestbook.core import ORIGIN, EntryId, EventLog, LogEntry, Message
from guestbook.storage import REDIS_ERRORS, HeartbeatReply, Store, StreamHead, explain, replaced_at

BLOCK_MS = 1000
READ_TIMEOUT = 2.0
"""Seconds for an answer of Redis: to a blocking read it may take half of them."""

_PAGE = 500
_PAUSE_SECONDS = 0.1
# A turn of the loop takes a few seconds: a blocking read, its timeout and a pause.
_STUCK_SECONDS = 15.0
# A connection that is lost and made again at once is not worth reporting.
_BEHIND_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Follower:
    """Reads the stream from the log's last id on.

    `on_entries` is called when the log has new entries, `on_break` when it was loaded again, which
    makes positions invalid, and `on_lost` while Redis cannot be reached.

    Redis may come back with other data. The follower notices this when it reconnects, the heartbeat
    when it compares replies (`check`). The one that is first loads the log again.
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
        self._needs_load = True
        self._needs_verification = False
        self._is_woken = False
        self._reading: asyncio.Timeout | None = None
        self._is_connected = False
        self._last_step_at = self._lost_at = time.monotonic()
        # For comparison with the next heartbeat, and when it was read.
        self._head = StreamHead("", ORIGIN, 0)
        self._known_at = 0.0

    @property
    def is_behind(self) -> bool:
        """Whether the stream could not be read for so long that the log may be outdated."""
        return not self._is_connected and time.monotonic() - self._lost_at > _BEHIND_SECONDS

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has stopped or only fails, so that the process must be restarted."""
        return time.monotonic() - self._last_step_at > _STUCK_SECONDS

    def verify_after_reconnect(self) -> None:
        """Verify, before the next read, that the server has what was read from another one."""
        self._needs_verification = True

    def wake(self) -> None:
        """Read again at once: Redis is back, and the reply awaited now may never come."""
        self._is_woken = True
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(asyncio.get_running_loop().time())

    def check(self, reply: HeartbeatReply, asked_at: float) -> bool:
        """Compare a heartbeat with what is known of Redis, and load the log if data was lost.

        Returns whether the log and the reply are of the same data.
        """
        if self._needs_load or asked_at < self._known_at:
            return False  # the reply may be older than the log
        head, before = reply.head, self._head
        if (
            before.dataset_id not in ("", head.dataset_id)
            or head.last_id < before.last_id
            or head.entries_added < before.entries_added
        ):
            self._needs_load = True
            logger.warning("Redis has lost data: loading it again", last=str(head.last_id))
            return False
        # A heartbeat that is requested from now on is newer than everything read so far.
        self._remember(head._replace(last_id=self._log.last))
        return True

    def _remember(self, head: StreamHead) -> None:
        self._head = head
        self._known_at = time.monotonic()

    async def run(self) -> None:
        """Follow the stream until the task is cancelled."""
        while True:
            self._is_woken = False
            try:
                await self._step()
            except Exception:
                # Even reporting an error may fail. If this continues, the loop counts as stuck.
                with contextlib.suppress(Exception):
                    logger.exception("the stream's reader has failed")
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                self._last_step_at = time.monotonic()

    async def _step(self) -> None:
        """Wait for entries and append them, or pause if Redis cannot be reached."""
        try:
            try:
                # `wake` makes this end at once.
                async with asyncio.timeout(None) as self._reading:
                    if self._needs_load:
                        await self._load()
                    await self._read()
            finally:
                self._reading = None
            self._is_connected = True
        except REDIS_ERRORS as error:
            # Also if the verification itself failed.
            self._needs_verification = True
            if not self._is_woken:
                self._handle_loss(error)
                await asyncio.sleep(_PAUSE_SECONDS * random.uniform(1, 3))  # noqa: S311  # jitter

    def _handle_loss(self, error: Exception) -> None:
        was_connected, self._is_connected = self._is_connected, False
        if was_connected:
            self._lost_at = time.monotonic()
        self._on_lost()
        if was_connected:
            logger.warning("the stream cannot be read", error=explain(error))

    async def _read(self) -> None:
        # Do not wait for entries the first time: the reply shows that the connection works.
        block_ms = BLOCK_MS if self._is_connected else 1
        async with asyncio.timeout(READ_TIMEOUT):
            page, trimmed, dataset_id = await self._store.read(
                self._log.last, count=_PAGE, block_ms=block_ms
            )
        if self._needs_verification and not await self._verify_continuity():
            # After a fail-over the newest entries may be gone while newer ones have come.
            self._needs_load = True
            logger.warning("Redis lacks the entry read last: loading it again")
        elif self._is_other(dataset_id):
            self._needs_load = True
            logger.info("Redis has other messages: loading them")
        elif trimmed > max(self._log.last, self._log.low_watermark):
            # Entries were stored and trimmed that this process has not seen.
            self._needs_load = True
            logger.warning("the stream was trimmed past the reader", trimmed=str(trimmed))
        else:
            self._log.trim_to(trimmed)
            if page.reached is not None:
                self._log.append(map(LogEntry.encode, page.entries), page.reached)
                self._on_entries()

    def _is_other(self, dataset_id: str) -> bool:
        """Return whether the messages have been replaced since the log was loaded."""
        if not self._head.dataset_id and replaced_at(dataset_id) <= self._log.replaced_at:
            # The log was loaded before the data had an identity.
            self._head = self._head._replace(dataset_id=dataset_id)
        return dataset_id not in ("", self._head.dataset_id)

    async def _verify_continuity(self) -> bool:
        """Return whether Redis has the entry read last, or has removed or trimmed it since."""
        last = self._log.last
        self._needs_verification = False
        if last == ORIGIN:
            return True
        cursor: EntryId | None = last.before()
        count = 1
        while cursor is not None:
            entries, reached, trimmed = await self._store.replay(cursor, count)
            # This version may not know the entry itself.
            if (
                last == reached
                or trimmed >= last
                or any(
                    not isinstance(entry, Message) and last in (entry.target, *entry.replaces)
                    for entry in entries
                )
            ):
                return True
            cursor, count = reached, _PAGE
        return False

    async def _load(self) -> None:
        self._needs_verification = False
        # The first read returns entries that are stored or deleted from now on.
        head = await self._store.head()
        entries, low_watermark = await self._read_newest(head.last_id)
        trimmed = await self._store.trimmed()
        was_loaded = self._log.is_loaded
        self._log.load(
            entries,
            last=head.last_id,
            low_watermark=low_watermark,
            replaced_at=replaced_at(head.dataset_id),
        )
        self._log.trim_to(trimmed)
        self._needs_load = False
        self._remember(head)
        if was_loaded:
            self._on_break()
        else:
            self._on_entries()
        logger.info("read the stream", entries=len(entries), last=str(head.last_id))

    async def _read_newest(self, last: EntryId) -> tuple[list[LogEntry], EntryId]:
        """Return as many entries up to `last` as the log holds, oldest first.

        Returns also the id up to which Redis may have more.
        """
        before = last.after()
        entries: list[LogEntry] = []
        size = 0
        while (
            before != ORIGIN
            and size < self._log.max_bytes
            and len(entries) <= self._log.max_entries
        ):
            page = await self._store.older(before, _PAGE)
            before = page.reached or ORIGIN
            page_entries = [LogEntry.encode(entry) for entry in page.entries]
            entries += page_entries
            size += sum(len(entry.frame) for entry in page_entries)
        return entries[::-1], before.before()
