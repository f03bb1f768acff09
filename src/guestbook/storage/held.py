"""The messages that wait for a moderator, in a stream of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio import Redis

from guestbook.core import EntryId, Message, Retention
from guestbook.storage.entries import decode, encode_trace
from guestbook.storage.errors import DeadlineExceededError
from guestbook.storage.store import (
    ADDRESS,
    DAY_MS,
    EDITS,
    EVENTS,
    HELD,
    MINUTE_MS,
    RECEIPT,
    TRIMMED,
    load_script,
)


class HeldMessage(NamedTuple):
    """A message that waits, and the key of its post's receipt."""

    message: Message
    receipt: str


class HeldStore:
    """The queue, over a client that never repeats a command by itself."""

    def __init__(self, client: Redis, retention: Retention) -> None:
        self._client: Any = client
        self._retention = retention
        self._decide = client.register_script(load_script("decide"))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def list(self, after: EntryId, count: int) -> list[Message]:
        """Return up to `count` messages that wait, oldest first, posted after one."""
        raw = await self._client.xrange(HELD, f"({after}", "+", count=count)
        return [held.message for held in map(_decode, raw) if held is not None]

    async def get(self, entry_id: EntryId) -> HeldMessage | None:
        """Return the message with this id, if it waits."""
        raw = await self._client.xrange(HELD, str(entry_id), str(entry_id))
        return _decode(raw[0]) if raw else None

    async def approve(
        self, entry_id: EntryId, *, until_ms: int = 0, trace: str = ""
    ) -> EntryId | None:
        """Move a message to the stream, once, and return its new id; None where none waits.

        The new id is remembered for 24 hours. Raises DeadlineExceededError.
        """
        return await self._settle(
            entry_id,
            "approve",
            decision=approval_key(entry_id),
            lifetime=DAY_MS,
            until_ms=until_ms,
            trace=trace,
        )

    async def refuse(self, entry_id: EntryId, *, key: str, until_ms: int = 0) -> bool:
        """Remove a message, once for each `key`; return whether it waited.

        Raises DeadlineExceededError.
        """
        refused = await self._settle(
            entry_id, "refuse", decision=key, lifetime=MINUTE_MS, until_ms=until_ms
        )
        return refused is not None

    async def _settle(
        self,
        entry_id: EntryId,
        verdict: str,
        *,
        decision: str,
        lifetime: int,
        until_ms: int,
        trace: str = "",
    ) -> EntryId | None:
        held = await self.get(entry_id)
        receipt = RECEIPT + (held.receipt if held else decision)
        answer: bytes = await self._decide(
            keys=[HELD, EVENTS, TRIMMED, EDITS, RECEIPT + decision, receipt, ADDRESS],
            args=[
                *(*self._retention, lifetime, until_ms, str(entry_id), verdict),
                *encode_trace(trace),
            ],
        )
        if answer == b"late":
            raise DeadlineExceededError
        return None if answer == b"absent" else EntryId.from_bytes(answer)


def approval_key(entry_id: EntryId) -> str:
    """Return the key of the receipt of an approval."""
    return f"approved:{entry_id}"


def _decode(raw: tuple[bytes, dict[bytes, bytes]]) -> HeldMessage | None:
    message = decode(*raw)
    if not isinstance(message, Message):
        return None
    return HeldMessage(message, raw[1].get(b"receipt", b"").decode(errors="replace"))
