"""Moderation in one process: held messages, closing, bans."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

import structlog

from guestbook.broadcast import PING_SECONDS, bye
from guestbook.core import ORIGIN, Control, EntryId, Message, Network, UnavailableError, sse
from guestbook.pod.guestbook import Guestbook, Listing
from guestbook.pod.retry import REQUEST_SECONDS, retry, within_request
from guestbook.storage import Decision, Verdict, decision_key

_QUEUE_MAX = 1000
_EVENTS: dict[Verdict, str] = {
    "approve": "approved a message",
    "refuse": "refused a message",
    "withdraw": "withdrew a message",
}

T = TypeVar("T")
logger = structlog.get_logger(__name__)


class Moderator:
    """Carries out the decisions of moderators, and logs each.

    All methods raise UnavailableError when Redis does not answer in time.
    """

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook
        self._store = guestbook.store
        self._presence = guestbook.presence

    # Held messages

    async def waiting(self, after: EntryId, limit: int) -> Listing:
        """Return held messages newer than `after`, oldest first."""
        found = await within_request(self._store.waiting(after, limit + 1))
        return Listing.of(found, limit)

    async def get(self, entry_id: EntryId) -> Message | None:
        """Return a held message."""
        found = await within_request(self._store.waiting(entry_id.before(), 1))
        return next((message for message in found if message.id == entry_id), None)

    async def approve(self, entry_id: EntryId) -> Message | None:
        """Move a held message to the stream, and return it with its new id; None if there is none.

        Repeating it within 24 hours returns the same message, even if it was deleted since.
        """
        decision = await self.decide(entry_id, "approve")
        return None if decision is None else decision.message

    async def decide(self, entry_id: EntryId, verdict: Verdict) -> Decision | None:
        """Decide about a held message; return None if there is none."""
        decide = functools.partial(self._store.decide, entry_id, verdict)
        key = decision_key(entry_id, verdict)
        decision = await self._guestbook.run_command(verdict, decide, key=key)
        if decision is not None and decision.is_new:
            logger.info(_EVENTS[verdict], held=str(entry_id), message=str(decision.id))
            self._presence.wake()
        return decision

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
                    # The next heartbeat tells when Redis is back.
                    sent = None
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield sse.PING
        yield bye()

    async def event(self) -> bytes:
        """Return the event with the held messages, oldest first."""
        found = await within_request(self._store.waiting(ORIGIN, _QUEUE_MAX))
        waiting = len(found)
        if waiting == _QUEUE_MAX:
            waiting = max(waiting, self._presence.held.waiting)
        data = {"messages": [json.loads(each.json()) for each in found], "waiting": waiting}
        return sse.event(json.dumps(data, separators=(",", ":")).encode(), name="held")

    # Closing, moderation, bans

    async def control(self) -> Control:
        """Return the decisions that apply to all pods."""
        return await within_request(self._store.control())

    async def set_control(self, fields: Mapping[str, str | None]) -> Control:
        """Change `closed` or `moderation`; None opens, or lets the setting decide."""
        set_control = functools.partial(self._store.set_control, fields)
        return await self._apply(set_control, "changed what is decided", **fields)

    async def author_of(self, message: EntryId) -> Network | None:
        """Return the network of a message's author, known for 24 hours; else None."""
        return await within_request(self._store.author_of(message))

    async def ban(self, network: Network, seconds: int) -> int:
        """Refuse posts from a network for some time; return until when, in ms of Redis's clock."""
        ban = functools.partial(self._store.ban, network, seconds)
        control = await self._apply(ban, "banned a network", network=str(network), seconds=seconds)
        return control.bans.get(network, 0)

    async def unban(self, network: Network) -> bool:
        """End a ban; return whether there was one."""
        was_banned = await within_request(self._store.unban(network))
        if was_banned:
            logger.info("ended a ban", network=str(network))
            self._presence.apply(await self.control())
        return was_banned

    async def _apply(
        self, command: Callable[[], Awaitable[Control]], event: str, **fields: object
    ) -> Control:
        control = await retry(command, deadline=time.monotonic() + REQUEST_SECONDS)
        logger.info(event, **fields)
        self._presence.apply(control)
        return control
