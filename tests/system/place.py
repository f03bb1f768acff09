"""A server with a failing Redis, and observers."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Self

import httpx

from tests.support.messages import TOKEN
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import allowed

EVENTS = "{guestbook}:events"
# As documented: readiness is right within 2 s of a change, and answers within 1 s.
TRUTH_SECONDS = 2.0
READY_SECONDS = 1.0
# A request waits this long for Redis.
REQUEST_SECONDS = 3.0
# How many scenarios may run at once, so that none is late because of the others.
_SLOTS = asyncio.Semaphore(6)


class Place:
    """A server, its Valkey, a proxy through which it may reach it, and a client.

    The scenario in it begins with all others, and /healthz is 200 all the time.
    """

    def __init__(
        self,
        folder: Path,
        begin: asyncio.Barrier,
        *,
        by_proxy: bool = False,
        is_started: bool = True,
        is_counting: bool = True,
    ) -> None:
        self._begin = begin
        self._is_started = is_started
        self.valkey = Valkey(folder / "valkey")
        self.proxy = Proxy(self.valkey.port)
        self.server = Server(
            folder / "server.log",
            self.proxy.address if by_proxy else self.valkey.address,
            GUESTBOOK_ADMIN_TOKEN=TOKEN,
            # If posts are counted, the counter is the first key that fails.
            GUESTBOOK_POST_RATE="1000/10s" if is_counting else "off",
        )
        self.http = self.server.client()
        self._posting: list[asyncio.Task[httpx.Response]] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.valkey.kill)
            if self._is_started:
                self.valkey.start()
            await stack.enter_async_context(self.proxy)
            stack.enter_context(self.server)
            await stack.enter_async_context(self.http)
            # Wait until all servers answer: starting takes the processor.
            await self.server.until("/ready" if self._is_started else "/healthz", 200)
            await self._begin.wait()
            await stack.enter_async_context(_SLOTS)
            self._watching = asyncio.create_task(self._watch_liveness())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        tasks = [self._watching, *self._posting]
        for task in tasks:
            task.cancel()
        healthy, *_others = await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()
        if kind is None:
            assert isinstance(healthy, asyncio.CancelledError), healthy
            assert "Traceback" not in self.server.lines()

    async def restart(self) -> None:
        await asyncio.to_thread(self.valkey.start)

    def begin_post(self, text: str) -> asyncio.Task[httpx.Response]:
        """Post while other things happen. It is given up at the end."""
        self._posting.append(asyncio.create_task(self.post(text)))
        return self._posting[-1]

    async def post(self, text: str, **headers: str) -> httpx.Response:
        return await self.http.post("/messages", json={"text": text}, headers=headers)

    async def ready(self) -> httpx.Response:
        """Get /ready; fail when that takes too long."""
        return await self.http.get("/ready", timeout=allowed(READY_SECONDS))

    async def is_ready(self) -> bool:
        return (await self.ready()).status_code == 200

    async def is_not_ready(self) -> bool:
        status = (await self.ready()).status_code
        assert status in (200, 503)
        return status == 503

    async def stored(self) -> list[str]:
        """Return the texts of all messages in Redis."""
        async with self.valkey.client() as redis:
            entries = await redis.xrange(EVENTS)
        return [fields["text"] for _, fields in entries if "text" in fields]

    async def ids(self) -> list[str]:
        async with self.valkey.client() as redis:
            return [entry_id for entry_id, _ in await redis.xrange(EVENTS)]

    async def _watch_liveness(self) -> None:
        """Fail as soon as /healthz does. Never returns."""
        while True:
            answer = await self.http.get("/healthz", timeout=allowed(READY_SECONDS))
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.25)
