"""Moderation in Redis: held messages, closing, bans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic_core import from_json
from redis.asyncio import Redis

from guestbook.core import (
    LAST,
    Control,
    EntryId,
    Message,
    Network,
    ProblemError,
    Retention,
    ban_field,
    network_of,
)
from guestbook.storage.entries import decode, encode_trace
from guestbook.storage.errors import DeadlineExceededError
from guestbook.storage.keys import (
    ADDRESS,
    CONTROL,
    DAY_MS,
    EDITS,
    EVENTS,
    HELD,
    MINUTE_MS,
    RECEIPT,
    TRIMMED,
    own_key,
)
from guestbook.storage.lua import load_script
from guestbook.storage.replies import Decision
from guestbook.storage.store import Store

BANS_MAX = 1000
"""Each pod reads all bans once a second."""

Verdict = Literal["approve", "refuse", "withdraw"]


class ModerationStore(Store):
    """The store with held messages, in a stream of their own, and a hash with other decisions."""

    def __init__(self, client: Redis, retention: Retention) -> None:
        super().__init__(client, retention)
        self._decide = client.register_script(load_script("decide"))
        self._ban = client.register_script(load_script("ban"))

    async def waiting(self, after: EntryId, count: int) -> list[Message]:
        """Return up to `count` held messages newer than `after`, oldest first."""
        if after == LAST:  # Redis takes it for an error to ask for what is larger
            return []
        raw = await self._client.xrange(HELD, f"({after}", "+", count=count)
        found = (decode(*each) for each in raw)
        return [message for message in found if isinstance(message, Message)]

    async def decide(
        self, entry_id: EntryId, verdict: Verdict, *, key: str, until_ms: int = 0, trace: str = ""
    ) -> Decision | None:
        """Move a message to the stream, or remove it, once for each `key`.

        Returns None where no such message waits. Raises DeadlineExceededError.
        """
        lifetime = DAY_MS if verdict == "approve" else MINUTE_MS
        outcome, *rest = await self._decide(
            keys=[HELD, EVENTS, TRIMMED, EDITS, RECEIPT + key, RECEIPT, ADDRESS],
            args=[
                *self._retention,
                lifetime,
                until_ms,
                str(entry_id),
                verdict,
                *encode_trace(trace),
            ],
        )
        if outcome == b"late":
            raise DeadlineExceededError
        if outcome == b"absent":
            return None
        new_id, memo = EntryId.from_bytes(rest[0]), rest[1]
        message = Message(new_id, *from_json(memo)) if memo else None
        return Decision(new_id, message, outcome == b"new")

    async def control(self) -> Control:
        """Return the decisions that apply to all pods."""
        return Control.parse(await self._client.hgetall(CONTROL))

    async def set_control(self, fields: Mapping[str, str | None]) -> Control:
        """Change the decisions, and return them; None removes a field."""
        for name, value in fields.items():
            if value is None:
                await self._client.hdel(CONTROL, name)
            else:
                await self._client.hset(CONTROL, name, value)
        return await self.control()

    async def ban(self, network: Network, seconds: int) -> Control:
        """Refuse posts from a network for some time. Raises ProblemError for one too many."""
        if not await self._ban([CONTROL], [ban_field(network), seconds * 1000, BANS_MAX]):
            detail = f"{BANS_MAX} networks are banned, as many as may be: end some bans"
            raise ProblemError(422, detail, field="network")
        return await self.control()

    async def unban(self, network: Network) -> bool:
        """End a ban; return whether there was one."""
        return bool(await self._client.hdel(CONTROL, ban_field(network)))

    async def author_of(self, message: EntryId) -> Network | None:
        """Return the network that posted a message within the last 24 hours, if it is known."""
        address = await self._client.get(f"{ADDRESS}{message}")
        try:
            return network_of((address or b"").decode())
        except ValueError:  # a Unix socket has none
            return None


def decision_key(entry_id: EntryId, verdict: Verdict) -> str:
    """Return the key of a decision; all approvals of a message share one."""
    return f"approved:{entry_id}" if verdict == "approve" else own_key()
