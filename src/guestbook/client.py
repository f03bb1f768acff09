"""Redis clients whose commands share round trips."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import MovedError, ReadOnlyError, ResponseError

_BATCH = 128

Command = tuple[Any, ...]


class _Asked(NamedTuple):
    """Commands that wait for their turn."""

    commands: tuple[Command, ...]
    answers: asyncio.Future[list[Any]]


class SharingRedis(Redis):
    """A client with one connection, whose round trips are shared by all who ask at the same time.

    What is asked for while an answer is awaited goes out together with the next. So a flood of
    requests needs no flood of connections, and none of them waits for one. redis-py makes the
    connection (and makes it anew); its pool and its pipelines would cost more than Redis does.

    `patience` is how many seconds a round trip may take, a connection to be made included.
    """

    def __init__(self, pool: ConnectionPool, *, patience: float) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self.patience = patience
        self._link: Any = None
        self._asked: deque[_Asked] = deque()
        self._is_busy = False
        self._sending: asyncio.Task[None] | None = None

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """As redis-py's."""
        link, self._link = self._link, None
        if link is not None:
            await self.connection_pool.release(link)
        await super().aclose(close_connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; raises the same."""
        (answer,) = await self._ask((args,))
        return self._read(args, answer, options)

    async def together(self, *commands: Command) -> list[Any]:
        """The answers to some commands that go out as one; raises the first error among them."""
        answers = await self._ask(commands)
        return [
            self._read(args, answer, {}) for args, answer in zip(commands, answers, strict=True)
        ]

    def _read(self, args: Command, answer: Any, options: dict[str, Any]) -> Any:
        if isinstance(answer, ResponseError):
            raise answer
        read = self.response_callbacks.get(args[0])
        return answer if read is None else read(answer, **options)

    async def _ask(self, commands: tuple[Command, ...]) -> list[Any]:
        if self._is_busy:
            asked = _Asked(commands, asyncio.get_running_loop().create_future())
            self._asked.append(asked)
            return await asked.answers
        self._is_busy = True
        try:
            return await self._exchange(commands)
        finally:
            self._go_on()

    def _go_on(self) -> None:
        self._is_busy = bool(self._asked)
        if self._asked:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        batch: list[_Asked] = []
        while self._asked and len(batch) < _BATCH:
            asked = self._asked.popleft()
            # Who has given up by now wants nothing any more.
            if not asked.answers.done():
                batch.append(asked)
        try:
            commands = tuple(command for asked in batch for command in asked.commands)
            answers = iter(await self._exchange(commands) if commands else [])
        except Exception as error:  # whatever it is, those who wait must hear it
            for asked in batch:
                if not asked.answers.done():
                    asked.answers.set_exception(error)
        else:
            for asked in batch:
                own = [next(answers) for _ in asked.commands]
                if not asked.answers.done():
                    asked.answers.set_result(own)
        finally:
            self._go_on()

    async def _exchange(self, commands: tuple[Command, ...]) -> list[Any]:
        """One round trip. Gives errors of single commands as answers, raises all others."""
        packed = b"".join(hiredis.pack_command(_words(command)) for command in commands)
        async with asyncio.timeout(self.patience):
            if self._link is None:
                pool: Any = self.connection_pool
                self._link = await pool.get_connection()
            link = self._link
            try:
                if not link.is_connected or await link.can_read():
                    # Redis has closed it, or somebody has left an answer behind.
                    await link.disconnect(nowait=True)
                    await link.connect()
                await link.send_packed_command(packed, check_health=False)
                answers = [await _answer(link) for _ in commands]
                if any(isinstance(answer, ReadOnlyError) for answer in answers):
                    # It has become a replica: a new connection may lead to the master.
                    await link.disconnect(nowait=True)
                return answers
            except BaseException:
                # What is still on its way would be taken for the next answer.
                await link.disconnect(nowait=True)
                raise


async def _answer(link: Any) -> Any:
    try:
        return await link.read_response()
    except ResponseError as error:
        return error


def _words(command: Command) -> Command:
    """redis-py writes commands of two words, such as XINFO STREAM, as one."""
    first, *rest = command
    return (*first.split(), *rest) if isinstance(first, str) and " " in first else command


class ClusterRedis(SharingRedis):
    """A client of the node that has the guestbook's keys; others' keys are asked for one by one."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; raises the same."""
        try:
            return await super().execute_command(*args, **options)
        except MovedError as moved:
            pool = self.connection_pool
            is_tls = issubclass(pool.connection_class, SSLConnection)
            kept = {k: v for k, v in pool.connection_kwargs.items() if k != "guides"}
            kept |= {"host": moved.host or kept.get("host"), "port": moved.port}
            other = ConnectionPool(SSLConnection if is_tls else Connection, **kept)
            async with Redis.from_pool(other) as redis:
                return await redis.execute_command(*args, **options)  # type: ignore[no-untyped-call]  # untyped there
