"""A Redis client for many concurrent callers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError

from guestbook.storage.errors import FAILOVER_ERRORS

_BATCH_MAX = 128
_CLOSED = "the client was closed"


class _Queued(NamedTuple):
    """A command that was asked for, when, and the future of its answer."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    asked_at: float
    answer: asyncio.Future[Any]


class PipeliningRedis(Redis):
    """A client that pipelines by itself: one connection serves any number of callers.

    What is asked for during a round trip is sent with the next one, so a flood of requests needs
    no flood of connections. A command waits for its turn at most `socket_timeout` seconds, and a
    round trip takes at most as long, connecting included. A command that finds nothing under way is
    sent at once, without a pipeline.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pool: Any = self.connection_pool
        # One timer for a whole round trip, instead of one for each send and each receive.
        self._timeout: float = pool.connection_kwargs["socket_timeout"]
        pool.connection_kwargs["socket_timeout"] = None
        self._queue: deque[_Queued] = deque()
        self._batch: list[_Queued] = []
        self._is_busy = False
        self._alone: asyncio.Timeout | None = None
        self._sending: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the answer to a command, or raise its error. It is never sent twice."""
        if not self._is_busy:
            return await self._send_alone(*args, **options)
        answer = asyncio.get_running_loop().create_future()
        self._queue.append(_Queued(args, options, time.monotonic(), answer))
        return await answer

    async def _send_alone(self, *args: Any, **options: Any) -> Any:
        self._is_busy = True
        self._alone = asyncio.timeout(self._timeout)
        try:
            async with self._alone:
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
        except TimeoutError:
            if self._alone is None:
                raise RedisConnectionError(_CLOSED) from None
            raise
        finally:
            self._alone = None
            # What was asked for meanwhile goes out together.
            if self._queue:
                self._sending = asyncio.create_task(self._send_queue())
            else:
                self._is_busy = False

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connection. Commands that have no answer yet fail."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        unanswered = [*self._batch, *self._queue]
        self._queue.clear()
        _answer(unanswered, [RedisConnectionError(_CLOSED)] * len(unanswered))
        alone, self._alone = self._alone, None
        if alone is not None and not alone.expired():
            alone.reschedule(asyncio.get_running_loop().time())
        await super().aclose(close_connection_pool)

    async def _send_queue(self) -> None:
        try:
            while batch := self._next_batch():
                _answer(batch, await self._round_trip(batch))
        finally:
            self._is_busy = False

    def _next_batch(self) -> list[_Queued]:
        now = time.monotonic()
        self._batch = []
        while self._queue and len(self._batch) < _BATCH_MAX:
            queued = self._queue.popleft()
            if now - queued.asked_at > self._timeout:
                _answer([queued], [TimeoutError()])
            elif not queued.answer.done():  # Else its caller was cancelled.
                self._batch.append(queued)
        return self._batch

    async def _round_trip(self, batch: list[_Queued]) -> list[Any]:
        """Return for each command its answer, or its error."""
        pipeline = self.pipeline(transaction=False)
        for queued in batch:
            pipeline.execute_command(*queued.args, **queued.options)
        answers: list[Any]
        try:
            async with asyncio.timeout(self._timeout):
                answers = await pipeline.execute(raise_on_error=False)
        except (DataError, UnicodeEncodeError) as error:
            # Nothing was sent: an argument cannot be encoded, which is its caller's error alone.
            if len(batch) == 1:
                return [error]
            return [(await self._round_trip([queued]))[0] for queued in batch]
        except Exception as error:  # Each caller gets it, whatever it is.
            answers = [error] * len(batch)
        if any(_spoils_connection(answer) for answer in answers):
            # An answer still on its way must not be taken for that of a later command.
            await self.connection_pool.disconnect()
        return answers


def _spoils_connection(answer: object) -> bool:
    if isinstance(answer, ResponseError):
        return isinstance(answer, FAILOVER_ERRORS)
    return isinstance(answer, Exception)


def _answer(batch: list[_Queued], answers: list[Any]) -> None:
    for queued, answer in zip(batch, answers, strict=True):
        if queued.answer.done():
            continue
        if isinstance(answer, Exception):
            queued.answer.set_exception(answer)
        else:
            queued.answer.set_result(answer)
