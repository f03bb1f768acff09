"""One process's guestbook: what the routes ask, and the tasks that keep it true."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from guestbook import __version__
from guestbook.broadcast import Fanout, ReplayUnavailableError
from guestbook.core import Entry, EntryId, EventLog, LogEntry, Message, NewMessage
from guestbook.pod.follower import BLOCK_MS, Follower
from guestbook.pod.presence import TIMEOUT, Presence
from guestbook.settings import Settings
from guestbook.storage import (
    REDIS_ERRORS,
    WAIT_MS,
    DeadlineExceededError,
    HeartbeatReply,
    Page,
    Replicas,
    Store,
    Stored,
    TooFewReplicasError,
    explain,
)

if TYPE_CHECKING:
    from guestbook.telemetry.tracing import Tracing

REQUEST_SECONDS = 3.0
"""How many seconds a request waits for Redis to come back."""

_LOG_BYTES = 8 * 1024 * 1024
_COMMAND_TIMEOUT = 1.0
_RETRY_PAUSE = 0.1
_REDIS_PAGE = 200

_UNTRACED = contextlib.nullcontext("")

T = TypeVar("T")
logger = structlog.get_logger(__name__)


class UnavailableError(Exception):
    """Redis did not answer in time; for a post or a deletion: it was not acknowledged.

    The text, if there is one, says more.
    """


class Listing(NamedTuple):
    """Some messages, and whether more follow in the direction in which they were read."""

    messages: list[Message]
    has_more: bool


def own_name() -> str:
    """What this process is called: on Kubernetes, the pod's name."""
    return os.environ.get("HOSTNAME") or socket.gethostname()


class Guestbook:
    """The messages, the streams and the pods, as this process knows them."""

    def __init__(
        self,
        settings: Settings,
        tracing: Tracing | None = None,
        *,
        observe_lag: Callable[[float], None] = lambda _: None,
        observe_command: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        address = settings.redis_url
        # Three clients, because a time-out that is right for one is wrong for the others: the
        # reader's answers may take as long as its blocking read, the heartbeat's may not.
        reading = address.client(
            timeout=BLOCK_MS / 1000 + _COMMAND_TIMEOUT,
            on_connect=lambda: self._reader.verify_after_reconnect(),  # noqa: PLW0108  # it comes later
        )
        self._reading = Store(reading, settings.retention)
        self._beating = Store(address.client(timeout=TIMEOUT), settings.retention)
        self.store = Store(address.client(timeout=_COMMAND_TIMEOUT), settings.retention)
        waiting = address.client(timeout=WAIT_MS / 1000 + _COMMAND_TIMEOUT)
        self._replicas = Replicas(Store(waiting, settings.retention), settings.wait_replicas)
        self.settings = settings
        self._tracing = tracing
        self.name = own_name()
        self.log = EventLog(settings.max_messages, _LOG_BYTES)
        self.fanout = Fanout(
            self.log, self._read_after, greeting=self._greet, on_delivered=self._note_delivery
        )
        self.pods = Presence(
            self._beating,
            name=self.name,
            version=__version__,
            count_streams=lambda: len(self.fanout),
            on_change=self.fanout.set_pods,
            on_heard=self._hear,
            on_return=self._reconnect,
        )
        self._reader = Follower(
            self._reading,
            self.log,
            on_entries=self.fanout.wake,
            on_break=self.fanout.reset,
            on_lost=self.pods.hurry,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.manual_not_ready_reason: str | None = None
        """Why somebody has taken this process out of service; None: nobody has."""
        self._history = ""
        self._added = 0
        self._last_seen = self.log.last
        self.accepted = 0
        """How many messages this process has stored."""
        self.replayed = 0
        """How many posts were answered with what their key had stored before."""
        self._observe_lag = observe_lag
        self._observe_command = observe_command

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows the stream and the other pods for as long as the context lasts."""
        work = (self._reader.run(), self.pods.run(), self.fanout.ping())
        self._tasks = [asyncio.create_task(coroutine) for coroutine in work]
        for task in self._tasks:
            task.add_done_callback(_note_end)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.pods.leave()
            await self._replicas.close()
            for store in (self.store, self._reading, self._beating):
                await store.close()

    def _reconnect(self) -> None:
        self._reader.hurry()

    async def _read_after(
        self, cursor: EntryId, count: int
    ) -> tuple[list[Entry], EntryId | None, EntryId]:
        """Read the entries after a cursor for streams that lag behind memory."""
        try:
            page, trimmed = await self.store.replay(cursor, count)
        except REDIS_ERRORS as error:
            raise ReplayUnavailableError from error
        return page.entries, page.reached, trimmed

    def _greet(self) -> bytes:
        return self.pods.current()

    def _hear(self, heard: HeartbeatReply, asked_at: float) -> None:
        """Notices that Redis has other data than before, and which cursors it cannot know."""
        self._observe_command("heartbeat", time.monotonic() - asked_at)
        is_other = (
            self._history not in ("", heard.dataset_id)
            or heard.last_id < self._last_seen
            or heard.entries_added < self._added
        )
        if is_other:
            logger.warning("Redis has lost data: reading it anew", last=str(heard.last_id))
            self._reader.mark_stale()
        self._history = heard.dataset_id
        self._added = heard.entries_added
        # Compared with the next answer: what this process had read before it was asked for.
        self._last_seen = min(self.log.last, heard.last_id) if is_other else self.log.last
        self.fanout.confirm(heard.last_id, asked_at)

    def _note_delivery(self, records: list[LogEntry]) -> None:
        if self.pods.clock is not None:
            now_ms = self.pods.clock.time(time.monotonic())
            for record in records:
                seconds = max(now_ms - record.id.ms, 0) / 1000
                self._observe_lag(seconds)
                if self._tracing is not None:
                    self._tracing.deliver(record, seconds, len(self.fanout))

    async def drain(self, seconds: float) -> None:
        """Takes leave: not ready any more, and the streams end, spread over `seconds`."""
        self.pods.state = "draining"
        self.pods.hurry()
        await self.fanout.drain(seconds)

    # What probes ask

    def failures(self) -> list[str]:
        """Why this process does not do its work and must be restarted. Empty: it does."""
        reasons = []
        if any(task.done() for task in self._tasks):
            reasons.append("a background task has ended")
        if self._reader.is_stuck:
            reasons.append("the stream's reader is stuck")
        return reasons

    def readiness_problems(self) -> list[str]:
        """Why this process should not get requests now. Empty: it is ready."""
        reasons = []
        if self.fanout.is_draining:
            reasons.append("draining: the process is about to stop")
        if self.manual_not_ready_reason:
            reasons.append(self.manual_not_ready_reason)
        if self.pods.error:
            reasons.append(self.pods.error)
        elif not self.log.is_loaded:
            reasons.append("the stream has not been read yet")
        elif self._reader.is_behind:
            reasons.append("the stream's reader has no connection to Redis")
        return reasons

    # What writes

    async def post(self, draft: NewMessage, *, address: str, key: str | None) -> Message:
        """Stores a message, once for each `key`; it is in the log when this returns.

        Raises TooManyPostsError, and UnavailableError when Redis does not take it in time.
        """
        deadline = time.monotonic() + REQUEST_SECONDS
        receipt = f"client:{key}" if key else f"own:{secrets.token_hex(16)}"

        async def store() -> Stored:
            stored = await self.store.post(
                draft,
                self.name,
                key=receipt,
                is_own_key=key is None,
                address=address,
                rate=self.settings.post_rate,
                until_ms=self._until(deadline),
                trace=trace,
            )
            await self._replicas.have(receipt)
            return stored

        asked_at = time.monotonic()
        with self._traced("post") as trace:
            message, is_new = await self._retry(deadline, store)
        self._observe_command("post", time.monotonic() - asked_at)
        if is_new:
            self.accepted += 1
        else:
            self.replayed += 1
        await self._wait_until_visible(message.id, deadline)
        return message

    async def delete(self, target: EntryId) -> bool:
        """Deletes a message; False where there is none. Raises UnavailableError."""
        deadline = time.monotonic() + REQUEST_SECONDS
        key = f"own:{secrets.token_hex(16)}"

        async def delete() -> EntryId | None:
            deletion = await self.store.delete(
                target, key=key, until_ms=self._until(deadline), trace=trace
            )
            await self._replicas.have(key)
            return deletion

        with self._traced("delete") as trace:
            deletion = await self._retry(deadline, delete)
        if deletion is None:
            return False
        await self._wait_until_visible(deletion, deadline)
        return True

    def _traced(self, name: str) -> contextlib.AbstractContextManager[str]:
        """Has a script's entry take along which trace it belongs to."""
        return _UNTRACED if self._tracing is None else self._tracing.command(name)

    def _until(self, deadline: float) -> int:
        """Redis's time after which a command must do nothing: before its sender gives up."""
        clock = self.pods.clock
        return 0 if clock is None else clock.deadline(deadline - 2 * _RETRY_PAUSE)

    async def _retry(self, deadline: float, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeats an attempt until Redis takes it or the time is up.

        For what may be repeated.
        """
        reason = ""
        limit: contextlib.AbstractAsyncContextManager[object] = contextlib.nullcontext()
        # Without replicas the first attempt ends in time by itself: a timer would be a twentieth of
        # what a post costs.
        if self.settings.wait_replicas:
            limit = asyncio.timeout(deadline - time.monotonic())
        while True:
            try:
                async with limit:
                    return await attempt()
            except (*REDIS_ERRORS, DeadlineExceededError, TooFewReplicasError) as error:
                if isinstance(error, TooFewReplicasError):
                    reason = str(error)
                if time.monotonic() + _RETRY_PAUSE >= deadline:
                    logger.warning("Redis did not take a command", error=explain(error))
                    raise UnavailableError(reason) from error
            await asyncio.sleep(_RETRY_PAUSE)
            limit = asyncio.timeout(deadline - time.monotonic())

    async def _wait_until_visible(self, entry_id: EntryId, deadline: float) -> None:
        """Waits until this process's own reads show the entry.

        If its reader is cut off for longer the answer goes out all the same: it is stored.
        """
        if entry_id <= self.log.last:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()):
                await self.log.reached(entry_id)

    # What reads: from memory, and only for what is older from Redis

    async def newest(self, limit: int, before: EntryId | None = None) -> Listing:
        """Up to `limit` messages older than `before`, newest first. Raises UnavailableError."""
        found = list(itertools.islice(self.log.newest(before), limit + 1))
        if len(found) <= limit and not self.log.is_complete:
            floor = self.log.low_watermark
            edge = EntryId(floor.ms, floor.seq + 1) if self.log.is_loaded else None
            if before is not None and (edge is None or before < edge):
                edge = before
            found += await self._read(self.store.older, edge, limit + 1 - len(found))
        return _listing(found, limit)

    async def since(self, after: EntryId, limit: int) -> Listing:
        """Up to `limit` messages newer than `after`, oldest first. Raises UnavailableError."""
        if self.log.is_loaded and (after >= self.log.low_watermark or self.log.is_complete):
            found = list(itertools.islice(self.log.oldest(after), limit + 1))
        else:
            found = await self._read(self.store.newer, after, limit + 1)
        return _listing(found, limit)

    async def get(self, entry_id: EntryId) -> Message | None:
        """Return the message with this id. Raises UnavailableError."""
        message = self.log.get(entry_id)
        if message is not None:
            return message
        is_known = entry_id <= self.log.last and (
            self.log.is_complete or entry_id > self.log.low_watermark
        )
        if self.log.is_loaded and is_known:
            return None
        return await self._ask(self.store.get(entry_id))

    async def _read(
        self, read: Callable[..., Awaitable[Page]], edge: EntryId | None, count: int
    ) -> list[Message]:
        found: list[Message] = []
        while len(found) < count:
            page = await self._ask(read(edge, _REDIS_PAGE))
            if page.reached is None:
                break
            edge = page.reached
            found += [e for e in page.entries if isinstance(e, Message)]
        return found[:count]

    async def _ask(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await answer
        except REDIS_ERRORS as error:
            raise UnavailableError from error


def _note_end(task: asyncio.Task[None]) -> None:
    """A background task never ends by itself: the liveness probe fails, and here is why."""
    if not task.cancelled():
        logger.error("a background task has ended", exc_info=task.exception())


def _listing(found: list[Message], limit: int) -> Listing:
    return Listing(found[:limit], len(found) > limit)
