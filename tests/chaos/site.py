"""The system under test: guestbook servers on one Redis, each behind a proxy of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.support.proxy import Proxy
from tests.support.servers import ALONE, Server
from tests.support.valkey import Valkey

EVENTS = "{guestbook}:events"
TOKEN = "let me delete"
_SERVERS = 3
# Fills the log of a server, so that its memory is full from the start.
_PADDING = "x" * 900
_PAGE = 500

Process = Server | Valkey


class Site:
    """Three servers that are restarted, and a witness that runs all the time."""

    def __init__(self, folder: Path, binary: Path | None = None) -> None:
        self._folder = folder
        self._binary = binary
        self._stack = contextlib.AsyncExitStack()
        self.redis = self.valkey("first")
        self.doors: dict[Server, Proxy] = {}
        self.servers: list[Server] = []
        self.away: set[Server] = set()
        """Servers that a fault has stopped, so that no answer is expected."""

    def valkey(self, name: str) -> Valkey:
        """Make a Redis server of the same kind; it is not started."""
        # Long enough for a replica to continue after a fail-over.
        return Valkey(self._folder / name, "--repl-backlog-size", "16mb", binary=self._binary)

    def _kill_redis(self) -> None:
        self.redis.kill()  # after a fail-over it is another one

    @property
    def mortals(self) -> list[Server]:
        """The servers that faults may stop."""
        return self.servers[:_SERVERS]

    @property
    def witness(self) -> Server:
        """The server that runs from the start to the end."""
        return self.servers[_SERVERS]

    @contextlib.contextmanager
    def without(self, server: Server) -> Iterator[None]:
        """Expect no answer from a server that does not run."""
        self.away.add(server)
        try:
            yield
        finally:
            self.away.discard(server)

    async def fill(self, count: int) -> str:
        """Store `count` messages; return the newest id."""
        last = "0-0"
        async with self.redis.client() as redis:
            for start in range(0, count, _PAGE):
                pipeline: Any = redis.pipeline(transaction=False)
                for number in range(start, min(start + _PAGE, count)):
                    fields = {"text": f"earlier {number} {_PADDING}", "pod": "pod-0"}
                    pipeline.xadd(EVENTS, fields)
                last = (await pipeline.execute())[-1]
        return last

    async def stream(self) -> list[tuple[str, dict[str, str]]]:
        """Return all entries in Redis."""
        entries: list[tuple[str, dict[str, str]]] = []
        after = "-"
        async with self.redis.client() as redis:
            while page := await redis.xrange(EVENTS, after, "+", count=5000):
                entries += page
                after = f"({page[-1][0]}"
        return entries

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._kill_redis)
            await asyncio.to_thread(self.redis.start)
            for number in range(_SERVERS + 1):
                door = await stack.enter_async_context(Proxy(self.redis.port))
                name = "witness" if number == _SERVERS else f"pod-{number}"
                server = Server(
                    self._folder / f"{name}.log",
                    door.address,
                    name,
                    GUESTBOOK_ADMIN_TOKEN=TOKEN,
                    GUESTBOOK_MAX_MESSAGES="10000000",
                )
                stack.callback(server.stop)
                self.servers.append(server)
                self.doors[server] = door
            self._stack = stack.pop_all()
        return self

    async def start(self) -> None:
        """Start the servers; return when they are ready."""
        for server in self.servers:
            server.start(under=ALONE if server is self.witness else ())
        await asyncio.gather(*(server.ready(within=60) for server in self.servers))

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
