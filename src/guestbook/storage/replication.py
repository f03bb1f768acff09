"""Wait until enough replicas have what was written."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from guestbook.storage.keys import MARKER, RECEIPT
from guestbook.storage.lua import load_script

WAIT_MS = 500
"""How long Redis waits for its replicas before it answers how many have caught up."""


class TooFewReplicasError(Exception):
    """Fewer replicas than wanted have it so far, or the master that had it is gone."""


class Replicas:
    """Wait until `count` replicas have what was written.

    `WAIT` blocks its connection, so it has a client of its own, and all callers that come while it
    blocks share the next one. Called on another connection than that of the write, `WAIT` has to
    follow a write; and after a fail-over the server may be another one, which lacks the receipt.
    """

    def __init__(self, client: Redis, count: int) -> None:
        self._client: Any = client
        self._count = count
        self._script = load_script("replicated")
        self._lock = asyncio.Lock()
        self._waiting: dict[asyncio.Future[tuple[bool, int]], str] = {}

    async def wait_for(self, key: str) -> None:
        """Return when the replicas have the receipt of this key, and what was written with it.

        Raises TooFewReplicasError when they do not get it soon, and what Redis raises.
        """
        if not self._count:
            return
        answer: asyncio.Future[tuple[bool, int]] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = key
        try:
            async with self._lock:
                if not answer.done():
                    await self._answer_all()
        finally:
            del self._waiting[answer]
        is_there, reached = answer.result()
        if not is_there:
            raise TooFewReplicasError("Redis has another master, which does not have it")
        if reached < self._count:
            raise TooFewReplicasError(
                f"It is stored, but {reached} of {self._count} replicas have it so far"
            )

    async def _answer_all(self) -> None:
        """Look for all receipts that are waited for, and wait once for the replicas."""
        answers = list(self._waiting)
        receipts = [RECEIPT + key for key in self._waiting.values()]
        # On one connection, and so on one server.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.eval(self._script, 1 + len(receipts), MARKER, *receipts)
        pipeline.wait(self._count, WAIT_MS)
        found, reached = await pipeline.execute()
        for answer, is_there in zip(answers, found, strict=True):
            answer.set_result((bool(is_there), reached))
