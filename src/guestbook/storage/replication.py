"""Wait until enough replicas have what was written."""

from __future__ import annotations

import asyncio

from guestbook.storage.errors import REDIS_ERRORS
from guestbook.storage.store import Store

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

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._count = count
        self._callers: list[tuple[str, asyncio.Future[None]]] = []
        self._waiting: asyncio.Task[None] | None = None

    async def have(self, key: str) -> None:
        """Return when the replicas have the receipt of this key, and what was written with it.

        Raises TooFewReplicasError when they do not get it soon, and what Redis raises.
        """
        if not self._count:
            return
        answer = asyncio.get_running_loop().create_future()
        self._callers.append((key, answer))
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait())
        await answer

    async def close(self) -> None:
        """Close the connection. There must be no callers any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        await self._store.close()

    async def _wait(self) -> None:
        while self._callers:
            callers, self._callers = self._callers, []
            try:
                found, reached = await self._store.replicated(
                    [key for key, _ in callers], self._count, WAIT_MS
                )
            except REDIS_ERRORS as error:
                for _, answer in callers:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), is_found in zip(callers, found, strict=True):
                if answer.done():
                    continue
                if is_found and reached >= self._count:
                    answer.set_result(None)
                else:
                    answer.set_exception(TooFewReplicasError(self._explain(is_found, reached)))

    def _explain(self, is_found: bool, reached: int) -> str:
        if not is_found:
            return "Redis has another master, which does not have it"
        return f"It is stored, but {reached} of {self._count} replicas have it so far"
