"""A Redis client for many concurrent callers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from guestbook.storage.errors import FAILOVER_ERRORS

_BATCH_MAX = 128


class _Queued(NamedTuple):
    """A command that was asked for, when, and the future of its answer."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    asked_at: float
    answer: asyncio.Future[Any]

    def fail(self, error: Exception) -> None:
        """Raise an error in the caller, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


class PipeliningRedis(Redis):
    """A client that pipelines by itself: one connection serves any number of callers.

    Commands that are issued during a round trip are sent together with the next one. A command
    waits for its turn at most `socket_timeout` seconds, and a round trip takes at most as long,
    connecting included.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pool: Any = self.connection_pool
        # One timer for a whole round trip, instead of one for each send and each receive.
        self._timeout: float = pool.connection_kwargs["socket_timeout"]
        pool.connection_kwargs["socket_timeout"] = None
        self._encode = pool.get_encoder().encode
        self._queue: deque[_Queued] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the answer to a command, or raise its error. It is never sent twice."""
        # If an argument cannot be encoded, only its caller should fail.
        encoded = (args[0], *map(self._encode, args[1:]))
        answer = asyncio.get_running_loop().create_future()
        self._queue.append(_Queued(encoded, options, time.monotonic(), answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_queue())
        return await answer

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connection. Commands that have no answer yet fail."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None
        while self._queue:
            self._queue.popleft().fail(RedisConnectionError("the client was closed"))
        await super().aclose(close_connection_pool)

    async def _send_queue(self) -> None:
        while batch := list(itertools.islice(self._queue, _BATCH_MAX)):
            await self._round_trip(batch)
            for _ in batch:
                self._queue.popleft()
        self._sending = None

    async def _round_trip(self, batch: list[_Queued]) -> None:
        too_long_ago = time.monotonic() - self._timeout
        pipeline = self.pipeline(transaction=False)
        sent = []
        for queued in batch:
            if queued.asked_at < too_long_ago:
                queued.fail(TimeoutError())
            elif not queued.answer.done():  # else its caller was cancelled
                pipeline.execute_command(*queued.args, **queued.options)
                sent.append(queued)
        try:
            async with asyncio.timeout(self._timeout):
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
            if any(isinstance(answer, FAILOVER_ERRORS) for answer in answers):
                await self.connection_pool.disconnect()
        except Exception as error:  # Each caller gets it, whatever it is.
            answers = [error] * len(sent)
            # An answer that was not read must not be taken for that of a later command.
            await self.connection_pool.disconnect()
        for queued, answer in zip(sent, answers, strict=True):
            if isinstance(answer, Exception):
                queued.fail(answer)
            elif not queued.answer.done():
                queued.answer.set_result(answer)
