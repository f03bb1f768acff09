"""What is put to the test: guestbook servers on one Redis, each behind a door of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.valkey import Valkey

EVENTS = "{guestbook}:events"
TOKEN = "let me delete"
_SERVERS = 3
# As many bytes as a server's log holds, so that its memory is full from the start.
_PADDING = "x" * 900
_PAGE = 500

Process = Server | Valkey


class Site:
    """Three servers that come and go, and a witness that stays, whatever happens to its Redis."""

    def __init__(self, folder: Path, binary: Path | None = None) -> None:
        self._folder = folder
        self._binary = binary
        self._stack = contextlib.AsyncExitStack()
        self.redis = self.valkey("first")
        self.doors: dict[Server, Proxy] = {}
        self.servers: list[Server] = []
        self.away: set[Server] = set()
        """Servers that a fault has stopped, of which nobody expects an answer."""

    def valkey(self, name: str) -> Valkey:
        """A Redis of the site's kind, not yet started."""
        # A fail-over leaves a backlog that is long enough to go on from.
        return Valkey(self._folder / name, "--repl-backlog-size", "16mb", binary=self._binary)

    def _kill_redis(self) -> None:
        self.redis.kill()  # whichever it is by then

    @property
    def mortals(self) -> list[Server]:
        """The servers that may be killed."""
        return self.servers[:_SERVERS]

    @property
    def witness(self) -> Server:
        """The server that runs from the beginning to the end."""
        return self.servers[_SERVERS]

    @contextlib.contextmanager
    def without(self, server: Server) -> Iterator[None]:
        """While a server does not run, or does not answer because it was stopped."""
        self.away.add(server)
        try:
            yield
        finally:
            self.away.discard(server)

    async def fill(self, count: int) -> str:
        """Stores messages of earlier; gives the newest id."""
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
        """All entries, as Redis has them."""
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
        """Starts the servers; returns when they are ready."""
        for server in self.servers:
            server.start()
        await asyncio.gather(*(server.ready(within=60) for server in self.servers))

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
