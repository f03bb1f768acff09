"""A client of `GET /events` that parses exactly as the standard has it (WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support import leaks
from tests.support.raw import drop
from tests.support.waiting import PATIENCE, allowed

LASTING = ("message", "edited", "deleted", "reset")
"""The events that have an id, which a client must not miss."""


@dataclass
class Event:
    """One event as a browser would dispatch it, and the cursor after it."""

    name: str
    data: Any
    id: str


@dataclass
class Head:
    """The response's status and headers (with names in lower case)."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


class EventStream:
    """One connection to a stream: a context manager, read with `next`, `until` and `entries`.

    `further` is sent right behind the request, as a pipelining client does. `source` is the address
    from which the connection comes.
    """

    def __init__(
        self,
        url: str,
        *,
        path: str = "/events",
        after: str | None = None,
        last_event_id: str | None = None,
        version: str = "1.1",
        further: bytes = b"",
        source: str | None = None,
        **headers: str,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = path + (f"?after={after}" if after is not None else "")
        self._headers = {"Host": parts.netloc, "Accept": "text/event-stream", **headers}
        if last_event_id is not None:
            self._headers["Last-Event-ID"] = last_event_id
        self._version = version
        self._further = further
        self._source = (source, 0) if source else None
        self._left = b""
        self.head = Head(0)
        self.cursor = last_event_id or after
        self.retries: list[int] = []
        self.comments: list[str] = []
        self.is_complete = False
        """Whether the response was ended properly, with a last chunk."""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=2**24, local_addr=self._source
        )
        lines = [f"GET {self._path} HTTP/{self._version}"]
        lines += [f"{k}: {v}" for k, v in self._headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + self._further)
        try:
            async with asyncio.timeout(PATIENCE):
                raw = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        except BaseException:
            # If a context manager cannot be entered, its exit is not called.
            await drop(self._writer)
            raise
        status, *fields = raw.split("\r\n")
        pairs = (line.partition(": ") for line in fields if line)
        self.head = Head(int(status.split()[1]), {k.lower(): v for k, _, v in pairs})
        return self

    async def __aexit__(self, *_: object) -> None:
        await drop(self._writer)

    @property
    def socket(self) -> Any:
        """The socket of the connection."""
        return self._writer.get_extra_info("socket")

    def cut(self) -> None:
        """Drop the connection without closing it properly."""
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send more, as no client should."""
        self._writer.write(data)

    def send_eof(self) -> None:
        self._writer.write_eof()

    async def body(self) -> bytes:
        """Return the whole body of a response that is not a stream."""
        return await self._reader.readexactly(int(self.head.headers["content-length"]))

    async def _chunk(self) -> bytes:
        if self.head.headers.get("transfer-encoding") != "chunked":
            # To a client of HTTP/1.0: such a body ends with the connection.
            data = await self._reader.read(2**16)
            self.is_complete = not data
            return data
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        data = await self._reader.readexactly(size + 2)
        if not size:
            self.is_complete = True
        return data[:-2]

    async def _block(self) -> str | None:
        while b"\n\n" not in self._left:
            data = await self._chunk()
            if not data:
                return None
            self._left += data
        block, _, self._left = self._left.partition(b"\n\n")
        leaks.watch.look(self._path, block)
        return block.decode()

    async def next(self, *, within: float = PATIENCE) -> Event | None:
        """Return the next event; None when the stream has ended properly."""
        # Not `wait_for`: before Python 3.12 it may swallow a cancellation of its caller.
        async with asyncio.timeout(allowed(within)):
            return await self._next()

    async def _next(self) -> Event | None:
        while (block := await self._block()) is not None:
            name, data = "message", []
            for line in block.split("\n"):
                key, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not key:
                    self.comments.append(value)
                elif key == "id":
                    self.cursor = value
                elif key == "event":
                    name = value
                elif key == "data":
                    data.append(value)
                elif key == "retry":
                    self.retries.append(int(value))
            if data:
                return Event(name, json.loads("\n".join(data)), self.cursor or "")
        return None

    async def until(self, name: str, *, within: float = PATIENCE) -> Event:
        """Return the next event of this name, and ignore others before it."""
        async with asyncio.timeout(allowed(within)):
            while (event := await self._next()) is not None:
                if event.name == name:
                    return event
            raise AssertionError(f"the stream ended without {name}")

    async def rest(self, *, within: float = PATIENCE) -> list[Event]:
        """Return all events up to the proper end of the response."""
        events = []
        async with asyncio.timeout(allowed(within)):
            while (event := await self._next()) is not None:
                events.append(event)
        return events

    async def entries(self, count: int, *, within: float = PATIENCE) -> list[Event]:
        """Return the next `count` messages, edits, deletions and resets."""
        events: list[Event] = []
        async with asyncio.timeout(allowed(within)):
            while len(events) < count:
                event = await self._next()
                assert event is not None, f"the stream ended after {len(events)} of {count}"
                if event.name in LASTING:
                    events.append(event)
        return events

    async def messages(self, count: int, *, within: float = PATIENCE) -> list[dict[str, Any]]:
        """Return the data of the next `count` messages."""
        return [(await self.until("message", within=within)).data for _ in range(count)]


class Visitor:
    """A client that comes back with its cursor whenever it is cut off, and records its events."""

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self.events: list[Event] = []
        """The messages, edits, deletions and resets that it was sent, over all connections."""
        self.visits = 0

    @property
    def texts(self) -> list[str]:
        return [event.data["text"] for event in self.events if event.name == "message"]

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    def has(self, count: int) -> bool:
        return len(self.events) >= count

    async def visit(
        self, url: str, *, seconds: float | None = None, last: str | None = None
    ) -> None:
        """Read one connection until it ends or is cut, the time is up, or `last` has come."""
        self.visits += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with EventStream(url, last_event_id=self.cursor) as stream:
                async with asyncio.timeout(seconds):
                    while (event := await stream.next()) is not None:
                        # The first event may have it, too: of what comes next nothing is missed.
                        self.cursor = event.id or None
                        if event.name in LASTING:
                            self.events.append(event)
                            if event.id == last:
                                return

    async def stay(self, url: str) -> None:
        """Come back to the same server until it is cancelled."""
        while True:
            await self.visit(url)
            await asyncio.sleep(0.05)
