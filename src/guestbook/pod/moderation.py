"""What moderators and operators ask of one process: held messages, closing, bans."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import structlog

from guestbook.broadcast import PING_SECONDS, bye
from guestbook.core import (
    ORIGIN,
    Control,
    EntryId,
    Message,
    Moderation,
    Network,
    ProblemError,
    network_of,
    sse,
)
from guestbook.pod.guestbook import REQUEST_SECONDS, Guestbook, Listing, within_request
from guestbook.pod.retry import UnavailableError, retry
from guestbook.storage import approval_key

_QUEUE_MAX = 1000

T = TypeVar("T")
logger = structlog.get_logger(__name__)


class Moderator:
    """Decides in the name of the one with the admin token; each decision is logged.

    All methods raise UnavailableError when Redis does not answer in time.
    """

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook
        self._presence = guestbook.presence

    # Held messages

    async def waiting(self, after: EntryId, limit: int) -> Listing:
        """Return messages that wait, oldest first, posted after one."""
        found = await within_request(self._guestbook.held.list(after, limit + 1))
        return Listing(found[:limit], len(found) > limit)

    async def approve(self, entry_id: EntryId) -> Message | None:
        """Move a message to the stream, once, and return it with its new id; None for no message.

        It is returned again within 24 hours, unless it was deleted.
        """
        guestbook = self._guestbook
        deadline = time.monotonic() + REQUEST_SECONDS

        async def approve() -> EntryId | None:
            new_id = await guestbook.held.approve(
                entry_id, until_ms=guestbook.redis_deadline(deadline), trace=trace
            )
            if new_id is not None:
                await guestbook.replicas.have(approval_key(entry_id))
            return new_id

        with guestbook.traced("approve") as trace:
            new_id = await retry(approve, deadline=deadline)
        if new_id is None:
            return None
        logger.info("approved a message", held=str(entry_id), message=str(new_id))
        self._presence.wake()
        await guestbook.wait_until_visible(new_id, deadline)
        return await guestbook.get(new_id)

    async def refuse(self, entry_id: EntryId) -> bool:
        """Remove a message that waits; return False if none does."""
        guestbook = self._guestbook
        deadline = time.monotonic() + REQUEST_SECONDS
        key = f"own:{secrets.token_hex(16)}"

        async def refuse() -> bool:
            was_waiting = await guestbook.held.refuse(
                entry_id, key=key, until_ms=guestbook.redis_deadline(deadline)
            )
            if was_waiting:
                await guestbook.replicas.have(key)
            return was_waiting

        was_waiting = await retry(refuse, deadline=deadline)
        if was_waiting:
            logger.info("refused a message", held=str(entry_id))
            self._presence.wake()
        return was_waiting

    async def withdraw(self, entry_id: EntryId, key: str) -> bool:
        """Remove a message that waits, for the client that posted it with this key.

        Return False if none waits. Raises ProblemError for another key.
        """
        held = await within_request(self._guestbook.held.get(entry_id))
        if held is None:
            return False
        if not hmac.compare_digest(held.receipt.encode(), f"client:{key}".encode()):
            raise ProblemError(403, "The message was posted with another Idempotency-Key.")
        return await self.refuse(entry_id)

    async def follow(self, first: bytes) -> AsyncIterator[bytes]:
        """Yield the events of a moderator's stream, until this process stops."""
        sent, event = None, first
        while self._presence.state != "draining":
            changed, held = self._presence.held_changed, self._presence.held
            if held != sent:
                try:
                    yield event or await self.event()
                    sent, event = held, b""
                except UnavailableError:
                    # It can be read again when the heartbeat can.
                    sent = None
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield sse.PING
        yield bye()

    async def event(self) -> bytes:
        """Return the event with the messages that wait, oldest first."""
        found = await within_request(self._guestbook.held.list(ORIGIN, _QUEUE_MAX))
        waiting = len(found)
        if waiting == _QUEUE_MAX:
            waiting = max(waiting, self._presence.held.waiting)
        data = {"messages": [json.loads(each.json()) for each in found], "waiting": waiting}
        return sse.event(json.dumps(data, separators=(",", ":")).encode(), name="held")

    # Closing, moderation, bans

    async def control(self) -> Control:
        """Return what is decided."""
        return await within_request(self._guestbook.control.read())

    async def set_closed(self, words: str | None) -> None:
        """Close the guestbook with these words; None opens it."""
        control = await _repeated(lambda: self._guestbook.control.set_closed(words))
        if words is None:
            logger.info("opened the guestbook")
        else:
            logger.info("closed the guestbook", words=words)
        self._presence.apply(control)

    async def set_moderation(self, moderation: Moderation | None) -> None:
        """Switch moderation; None leaves it to the setting."""
        control = await _repeated(lambda: self._guestbook.control.set_moderation(moderation))
        logger.info("switched moderation", moderation=moderation or "default")
        self._presence.apply(control)

    async def author_of(self, message: EntryId) -> Network | None:
        """Return the network that posted a message within 24 hours; None: it is not known."""
        address = await within_request(self._guestbook.control.address(message))
        try:
            return network_of(address or "")
        except ValueError:  # a Unix socket has none
            return None

    async def ban(self, network: Network, seconds: int) -> int:
        """Refuse posts from a network for some time; return until when, in ms of Redis's clock."""
        control = await _repeated(lambda: self._guestbook.control.ban(network, seconds))
        logger.info("banned a network", network=str(network), seconds=seconds)
        self._presence.apply(control)
        return control.bans.get(network, 0)

    async def unban(self, network: Network) -> bool:
        """End a ban; return whether there was one."""
        was_banned = await within_request(self._guestbook.control.unban(network))
        if was_banned:
            logger.info("ended a ban", network=str(network))
            self._presence.apply(await self.control())
        return was_banned


async def _repeated(command: Callable[[], Awaitable[T]]) -> T:
    return await retry(command, deadline=time.monotonic() + REQUEST_SECONDS)
