"""The guestbook of one process: reads and writes for the routes, and answers for probes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from guestbook.broadcast import Fanout
from guestbook.core import (
    Control,
    Deletion,
    Edit,
    EntryId,
    EventLog,
    Message,
    NewMessage,
    ProblemError,
)
from guestbook.pod.follower import Follower
from guestbook.pod.presence import Presence
from guestbook.pod.retry import REQUEST_SECONDS, RETRY_PAUSE, retry, within_request
from guestbook.settings import Settings
from guestbook.storage import (
    LONG_AGO,
    DeadlineExceededError,
    Decision,
    EntryPage,
    ModerationStore,
    Replicas,
    Stored,
    client_key,
    is_own_key,
    own_key,
)

if TYPE_CHECKING:
    from guestbook.telemetry.tracing import Tracing

# How many entries a read asks Redis for at a time.
_READ_COUNT = 200
# Load balancers ask for readiness at least this often.
_PROBE_SECONDS = 15.0
# How long after the first of them has learned that the pod is not ready the others have, too.
_NOTICED_SECONDS = 1.0
_UNTRACED = contextlib.nullcontext("")

T = TypeVar("T")
Changed = TypeVar("Changed", Edit, Deletion, Decision)


class Listing(NamedTuple):
    """A part of the messages, and whether more follow in the direction of reading."""

    messages: list[Message]
    has_more: bool

    @classmethod
    def of(cls, found: list[Message], limit: int) -> Self:
        """Return the first `limit` of the messages found."""
        return cls(found[:limit], len(found) > limit)


@dataclass(eq=False)
class Guestbook:
    """The messages, the streams and the pods, as this process knows them.

    `open_guestbook` makes one.
    """

    settings: Settings
    store: ModerationStore
    replicas: Replicas
    log: EventLog
    fanout: Fanout
    follower: Follower
    presence: Presence
    tasks: Sequence[asyncio.Task[None]]
    """The background tasks that keep it up to date."""
    observe_command: Callable[[str, float], None]
    tracing: Tracing | None
    manual_not_ready_reason: str | None = None
    """Why the lab has made this process not ready; None while it has not."""
    accepted: int = 0
    """How many messages this process has stored."""
    replayed: int = 0
    """How many posts were answered with the message that their key had stored before."""
    _probed_at: float = float("-inf")
    _noticed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The name of this process."""
        return self.presence.name

    async def drain(self, seconds: float) -> None:
        """Stop being ready, and end the streams, spread over `seconds`.

        Without streams return as soon as load balancers know; at once if none queries readiness.
        """
        self.presence.drain()
        if not len(self.fanout):
            self.fanout.is_draining = True
            if time.monotonic() - self._probed_at < _PROBE_SECONDS:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._noticed.wait()
                        await asyncio.sleep(_NOTICED_SECONDS)
            seconds = 0
        await self.fanout.drain(seconds)

    # Probes

    def liveness_problems(self) -> list[str]:
        """Return why this process must be restarted; empty while it works."""
        problems = []
        if any(task.done() for task in self.tasks):
            problems.append("a background task has ended")
        if self.follower.is_stuck:
            problems.append("the stream's reader is stuck")
        return problems

    def probe_readiness(self) -> list[str]:
        """Return `readiness_problems` to a load balancer."""
        self._probed_at = time.monotonic()
        if self.fanout.is_draining:
            self._noticed.set()
        return self.readiness_problems()

    def readiness_problems(self) -> list[str]:
        """Return why this process should not get requests now; empty while it is ready."""
        problems = []
        if self.fanout.is_draining:
            problems.append("draining: the process is about to stop")
        if self.manual_not_ready_reason:
            problems.append(self.manual_not_ready_reason)
        if self.presence.error:
            problems.append(self.presence.error)
        elif not self.log.is_loaded:
            problems.append("the stream has not been read yet")
        elif self.follower.is_behind:
            problems.append("the stream's reader has no connection to Redis")
        return problems

    # Writes

    async def post(self, new: NewMessage, *, address: str, key: str | None) -> Stored:
        """Store a message, once for each `key`, and return it as soon as reads show it.

        With moderation it waits instead. Raises ProblemError where the post is not accepted, and
        UnavailableError when Redis does not take it in time.
        """
        started = time.monotonic()
        deadline = started + REQUEST_SECONDS
        command = functools.partial(self._post, new, address)
        receipt = own_key() if key is None else client_key(key)
        stored = await self._retry_command("post", command, receipt, deadline)
        self.observe_command("post", time.monotonic() - started)
        if stored.is_new:
            self.accepted += 1
        else:
            self.replayed += 1
        if not stored.is_held:
            await self._wait_until_visible(stored.message.id, deadline)
        return stored

    async def _post(
        self, new: NewMessage, address: str, *, key: str, until_ms: int, trace: str
    ) -> Stored:
        refusal = self.refusal(address)
        if refusal is not None and is_own_key(key):
            raise refusal
        try:
            return await self.store.post(
                new,
                self.name,
                key=key,
                address=address,
                rate=self.settings.post_rate,
                # Too late for a new message, but one that was stored before is returned.
                until_ms=until_ms if refusal is None else LONG_AGO,
                trace=trace,
                hold=self.is_moderated,
                remember_address=self.settings.admin_token is not None,
            )
        except DeadlineExceededError:
            raise refusal or DeadlineExceededError from None

    def refusal(self, address: str) -> ProblemError | None:
        """Return why an address may not post now."""
        return self._control.refusal(address, self.presence.now_ms or 0)

    @property
    def is_moderated(self) -> bool:
        """Whether messages wait for a moderator."""
        return (self._control.moderation or self.settings.moderation) == "before"

    @property
    def _control(self) -> Control:
        if self.presence.control is None:
            raise ConnectionError("Redis has not answered yet")
        return self.presence.control

    async def delete(self, target: EntryId) -> bool:
        """Delete a message; return False if there is none. Raises UnavailableError."""
        delete = functools.partial(self.store.delete, target)
        return await self.run_command("delete", delete) is not None

    async def run_command(
        self, name: str, command: Callable[..., Awaitable[Changed | None]], *, key: str = ""
    ) -> Changed | None:
        """Run a command of a store, once for each key; return as soon as reads show the change.

        Raises UnavailableError.
        """
        deadline = time.monotonic() + REQUEST_SECONDS
        changed = await self._retry_command(name, command, key or own_key(), deadline)
        if changed is not None:
            await self._wait_until_visible(changed.id, deadline)
        return changed

    async def _retry_command(
        self, name: str, command: Callable[..., Awaitable[T]], receipt: str, deadline: float
    ) -> T:
        """Repeat a command until Redis, and as many replicas as wanted, have taken it."""
        # The entry carries the span's context.
        with _UNTRACED if self.tracing is None else self.tracing.command(name) as trace:

            async def attempt() -> T:
                clock = self.presence.clock
                # A command that arrives after `retry` has given up must do nothing.
                until_ms = clock.deadline(deadline - 2 * RETRY_PAUSE) if clock else 0
                result = await command(key=receipt, until_ms=until_ms, trace=trace)
                # Even "there is nothing to change" has to survive a fail-over.
                await self.replicas.wait_for(receipt)
                return result

            return await retry(attempt, deadline=deadline)

    async def _wait_until_visible(self, entry_id: EntryId, deadline: float) -> None:
        """Wait until the reads of this process show the entry.

        Returns at the deadline even if they do not: the entry is stored.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()):
                await self.log.wait_for(entry_id)

    # Reads: from memory, and from Redis only for older messages

    async def newest(self, limit: int, before: EntryId | None = None) -> Listing:
        """Return the newest messages before `before`, at most `limit`, newest first.

        Raises UnavailableError.
        """
        found = list(itertools.islice(self.log.newest(before), limit + 1))
        if len(found) <= limit and not self.log.is_complete:
            edge = self.log.low_watermark.after() if self.log.is_loaded else None
            if before is not None and (edge is None or before < edge):
                edge = before
            async for page in _pages(self.store.older, edge):
                found += page.messages
                if len(found) > limit:
                    break
        return Listing.of(found, limit)

    async def since(self, after: EntryId, limit: int) -> Listing:
        """Return the messages after `after`, at most `limit`, oldest first.

        Raises UnavailableError.
        """
        found: list[Message] = []
        async for page in self.pages_after(after):
            found += page.messages
            if len(found) > limit:
                break
        return Listing.of(found, limit)

    async def pages_after(self, after: EntryId) -> AsyncIterator[EntryPage]:
        """Yield the entries after an id, oldest first. Raises UnavailableError."""
        log = self.log
        if log.has_all_after(after):
            yield EntryPage(log.entries_after(after), log.last)
        else:
            async for page in _pages(self.store.newer, after):
                yield page

    async def get(self, entry_id: EntryId) -> Message | None:
        """Return the message with this id. Raises UnavailableError."""
        message = self.log.get(entry_id)
        if message is not None:
            return message
        if entry_id <= self.log.last and self.log.has_all_after(entry_id.before()):
            return None
        return await within_request(self.store.get(entry_id))


async def _pages(
    read: Callable[..., Awaitable[EntryPage]], edge: EntryId | None
) -> AsyncIterator[EntryPage]:
    """Yield what Redis has on one side of an id, page by page. Raises UnavailableError."""
    while True:
        page = await within_request(read(edge, _READ_COUNT))
        if page.reached is None:
            return
        yield page
        edge = page.reached
