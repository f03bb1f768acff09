"""Redis clients whose commands share round trips."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from typing import Any, NamedTuple

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError

from guestbook.storage.link import Link
from guestbook.storage.topology import MasterDiscovery

_BATCH = 128

Command = tuple[Any, ...]


class _Asked(NamedTuple):
    """Commands as they go out, who waits for their answers, and since when."""

    packed: list[bytes]
    answers: asyncio.Future[list[Any]]
    at: float


class Script:
    """A Lua script: named by its digest, and sent to a server that does not know it yet."""

    def __init__(self, client: PipeliningRedis, text: str) -> None:
        self._client = client
        self._text = text
        self._digest = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis's choice

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        """What it returns for these keys and arguments; raises what a command does."""
        command = ("EVALSHA", self._digest, len(keys), *keys, *args)
        try:
            return await self._client.execute_command(*command)
        except NoScriptError:
            await self._client.execute_command("SCRIPT LOAD", self._text)
            return await self._client.execute_command(*command)


class PipeliningRedis(Redis):
    """A client with one connection, whose round trips are shared by all who ask at the same time.

    What is asked for while an answer is awaited goes out together with the next. So a flood of
    requests needs no flood of connections, and none of them waits for one. redis-py makes the
    connection (and makes it anew); its pool and its pipelines would cost more than Redis does.

    `timeout` is how many seconds a round trip may take, a connection to be made included, and how
    long a command may wait for one: within twice as much it has an answer, or has failed.
    `guides` know where the connection has to lead.
    """

    def __init__(
        self, pool: ConnectionPool, *, timeout: float, guides: MasterDiscovery | None = None
    ) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self.timeout = timeout
        self._guides = guides
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: deque[_Asked] = deque()
        self._sent: list[_Asked] = []
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """As redis-py's; who waits for an answer hears that there will be none."""
        self._sent += self._waiting
        self._waiting.clear()
        self.disconnect()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await super().aclose(close_connection_pool)

    def disconnect(self) -> None:
        """Waits no longer for the answers that are on their way; the next connection is new."""
        self._end(RedisConnectionError("hung up"))

    def register_script(self, script: str) -> Script:  # type: ignore[override]  # takes less
        """As redis-py's."""
        return Script(self, script)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's; raises the same."""
        (answer,) = await self._ask([_pack(args)])
        return self._read(args, answer, options)

    async def together(self, *commands: Command) -> list[Any]:
        """The answers to some commands that go out as one; raises the first error among them."""
        answers = await self._ask([hiredis.pack_command(command) for command in commands])
        return [
            self._read(args, answer, {}) for args, answer in zip(commands, answers, strict=True)
        ]

    def _read(self, args: Command, answer: Any, options: dict[str, Any]) -> Any:
        if isinstance(answer, RedisError):
            raise answer
        read = self.response_callbacks.get(args[0])
        return answer if read is None else read(answer, **options)

    async def _ask(self, packed: list[bytes]) -> list[Any]:
        answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(packed, answers, time.monotonic()))
        if not self._sent:
            self._begin()
        return await answers

    # One round trip

    def _begin(self) -> None:
        now = time.monotonic()
        while self._waiting and len(self._sent) < _BATCH:
            asked = self._waiting.popleft()
            if asked.answers.done():
                continue  # Who has given up by now wants nothing any more.
            if now - asked.at > self.timeout:
                asked.answers.set_exception(TimeoutError())
            else:
                self._sent.append(asked)
        if not self._sent:
            return
        self._until = now + self.timeout
        self._set_timer()
        if self._link is None:
            self._connecting = asyncio.create_task(self._connect())
        else:
            self._send(self._link)

    def _set_timer(self) -> None:
        # It goes off too early for all round trips but one: that costs less than one for each.
        if self._timer is None:
            seconds = self._until - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._sent and time.monotonic() >= self._until:
            self._end(TimeoutError())
        elif self._sent:
            self._set_timer()

    async def _connect(self) -> None:
        pool: Any = self.connection_pool
        connection = pool.make_connection()
        try:
            await connection.connect()
            link = Link(connection, self._hand_out, self._end)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, Exception):
                self._connecting = None
                self._end(error)
                return
            raise
        self._connecting = None
        self._link = link
        self._send(link)

    def _send(self, link: Link) -> None:
        link.send([command for asked in self._sent for command in asked.packed])

    def _hand_out(self, answers: list[Any]) -> None:
        for number, answer in enumerate(answers):
            if isinstance(answer, RedisError):
                answers[number] = self._heed(answer)
        sent, self._sent = self._sent, []
        start = 0
        for asked in sent:
            stop = start + len(asked.packed)
            if not asked.answers.done():
                asked.answers.set_result(answers[start:stop])
            start = stop
        self._begin()

    def _heed(self, error: RedisError) -> RedisError:
        """What is told of an error; closes a connection that is of no use any more."""
        has_moved = self._guides is not None and self._guides.is_failover(error)
        # It has become a replica: a new connection may lead to the master.
        if has_moved or isinstance(error, ReadOnlyError | RedisConnectionError):
            self._close()
        if has_moved:
            return RedisConnectionError(f"the master is another one by now: {error}")
        return error

    def _end(self, error: Exception) -> None:
        """The round trip has failed, and its connection with it."""
        self._close()
        sent, self._sent = self._sent, []
        for asked in sent:
            if not asked.answers.done():
                asked.answers.set_exception(error)
        self._begin()

    def _close(self) -> None:
        # What is still on its way would be taken for the next answer.
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._link is not None:
            self._link.close()
            self._link = None


def _pack(command: Command) -> bytes:
    """redis-py writes commands of two words, such as XINFO STREAM, as one."""
    first, *rest = command
    packed: bytes = hiredis.pack_command((*first.split(), *rest))
    return packed


class ClusterRedis(PipeliningRedis):
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
