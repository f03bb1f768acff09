"""Wait until enough replicas have what was written."""

from __future__ import annotations

import asyncio
import itertools

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
        self._turn = asyncio.Lock()
        self._keys: list[str] = []
        self._next: asyncio.Task[tuple[set[str], int]] | None = None
        self._tasks: set[asyncio.Task[tuple[set[str], int]]] = set()

    async def have(self, key: str) -> None:
        """Return when the replicas have the receipt of this key, and what was written with it.

        Raises TooFewReplicasError when they do not get it soon, and what Redis raises.
        """
        if not self._count:
            return
        self._keys.append(key)
        if self._next is None:
            self._next = asyncio.create_task(self._wait())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        found, reached = await asyncio.shield(self._next)
        if key not in found:
            raise TooFewReplicasError("Redis has another master, which does not have it")
        if reached < self._count:
            raise TooFewReplicasError(
                f"It is stored, but {reached} of {self._count} replicas have it so far"
            )

    async def close(self) -> None:
        """End what callers that were cancelled have left behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self) -> tuple[set[str], int]:
        async with self._turn:
            keys, self._keys, self._next = self._keys, [], None
            found, reached = await self._store.replicated(keys, self._count, WAIT_MS)
        return set(itertools.compress(keys, found)), reached
