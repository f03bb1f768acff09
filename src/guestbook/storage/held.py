"""The messages that wait for a moderator, in a stream of their own."""

from __future__ import annotations

from typing import Any, Literal

from redis.asyncio import Redis

from guestbook.core import LAST, EntryId, Message, Retention
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
    own_key,
)

Verdict = Literal["approve", "refuse"]


class HeldStore:
    """The queue, over a client that never repeats a command by itself."""

    def __init__(self, client: Redis, retention: Retention) -> None:
        self._client: Any = client
        self._retention = retention
        self._decide = client.register_script(load_script("decide"))

    async def list(self, after: EntryId, count: int) -> list[Message]:
        """Return up to `count` messages that wait, oldest first, posted after one."""
        if after == LAST:  # Redis takes it for an error to ask for what is larger
            return []
        raw = await self._client.xrange(HELD, f"({after}", "+", count=count)
        found = (decode(*each) for each in raw)
        return [message for message in found if isinstance(message, Message)]

    async def decide(
        self, entry_id: EntryId, verdict: Verdict, *, key: str, until_ms: int = 0, trace: str = ""
    ) -> EntryId | None:
        """Move a message to the stream, or remove it, once for each `key`.

        Returns its new id, 0-0 for a refusal, None where no such message waits. Raises
        DeadlineExceededError.
        """
        lifetime = DAY_MS if verdict == "approve" else MINUTE_MS
        answer: bytes = await self._decide(
            keys=[HELD, EVENTS, TRIMMED, EDITS, RECEIPT + key, RECEIPT, ADDRESS],
            args=[
                *(*self._retention, lifetime, until_ms, str(entry_id), verdict),
                *encode_trace(trace),
            ],
        )
        if answer == b"late":
            raise DeadlineExceededError
        return None if answer == b"absent" else EntryId.from_bytes(answer)


def decision_key(entry_id: EntryId, verdict: Verdict) -> str:
    """Return the key of a decision: all approvals of a message share one, refusals do not."""
    return f"approved:{entry_id}" if verdict == "approve" else own_key()
