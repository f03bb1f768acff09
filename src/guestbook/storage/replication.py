"""Whether enough of Redis's replicas have what was written."""

from __future__ import annotations

import asyncio

from guestbook.storage.store import Store
from guestbook.storage.url import REDIS_ERRORS

WAIT_MS = 500
"""How long Redis waits for its replicas before it says how many have come so far."""


class TooFewReplicasError(Exception):
    """Fewer replicas than wanted have it so far, or the master that had it is gone."""


class Replicas:
    """Waits until `count` replicas have what was written.

    `WAIT` holds up its connection, so it has one of its own, and whoever asks while others wait is
    served by the next, however many they are. On another connection than the one that wrote,
    `WAIT` has to come after a write; and it must be on the master that has what was written,
    which after a fail-over may be another: so that is looked at too.
    """

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._count = count
        self._asked: list[tuple[str, asyncio.Future[None]]] = []
        self._waiting: asyncio.Task[None] | None = None

    async def have(self, key: str) -> None:
        """Returns when they have what the receipt of this key tells of.

        Raises TooFewReplicasError when they did not get it soon, and what Redis raises.
        """
        if not self._count:
            return
        answer = asyncio.get_running_loop().create_future()
        self._asked.append((key, answer))
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait())
        await answer

    async def close(self) -> None:
        """Closes the connection; call it when nobody asks any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        await self._store.close()

    async def _wait(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                there, reached = await self._store.replicated(
                    [key for key, _ in asked], self._count, WAIT_MS
                )
            except REDIS_ERRORS as error:
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), is_there in zip(asked, there, strict=True):
                if answer.done():
                    continue
                if is_there and reached >= self._count:
                    answer.set_result(None)
                else:
                    answer.set_exception(TooFewReplicasError(self._explain(is_there, reached)))

    def _explain(self, is_there: bool, reached: int) -> str:
        if not is_there:
            return "Redis has another master, which does not have it"
        return f"It is stored, but {reached} of {self._count} replicas have it so far"
