"""A client of `GET /events` that keeps to the letter of the standard (WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass
class Event:
    """One event as a browser would dispatch it, and its place among the others."""

    name: str
    data: Any
    id: str


@dataclass
class Head:
    """The response's status and headers (their names in lower case)."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


class EventStream:
    """One connection to a stream. Use it as a context manager; read with `next` and `until`."""

    def __init__(
        self,
        url: str,
        *,
        after: str | None = None,
        last_event_id: str | None = None,
        **headers: str,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = "/events" + (f"?after={after}" if after is not None else "")
        self._headers = {"Host": parts.netloc, "Accept": "text/event-stream", **headers}
        if last_event_id is not None:
            self._headers["Last-Event-ID"] = last_event_id
        self._left = b""
        self.head = Head(0)
        self.cursor = last_event_id or after
        self.retries: list[int] = []
        self.comments: list[str] = []
        self.is_complete = False
        """Whether the response was ended properly, by its last chunk."""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=2**24
        )
        lines = [f"GET {self._path} HTTP/1.1", *(f"{k}: {v}" for k, v in self._headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        raw = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)).decode()
        status, *fields = raw.split("\r\n")
        pairs = (line.partition(": ") for line in fields if line)
        self.head = Head(int(status.split()[1]), {k.lower(): v for k, _, v in pairs})
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Drops the connection without a word."""
        self._writer.transport.abort()

    async def body(self) -> bytes:
        """The whole body of an answer that is not a stream."""
        return await self._reader.readexactly(int(self.head.headers["content-length"]))

    async def _chunk(self) -> bytes:
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
        return block.decode()

    async def next(self, *, within: float = 5.0) -> Event | None:
        """The next event; None when the stream has ended properly."""
        return await asyncio.wait_for(self._next(), within)

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

    async def until(self, name: str, *, within: float = 5.0) -> Event:
        """The next event of this name, passing over others."""

        async def find() -> Event:
            while (event := await self._next()) is not None:
                if event.name == name:
                    return event
            raise AssertionError(f"the stream ended without {name}")

        return await asyncio.wait_for(find(), within)

    async def messages(self, count: int, *, within: float = 10.0) -> list[dict[str, Any]]:
        """The data of the next `count` messages."""
        return [(await self.until("message", within=within)).data for _ in range(count)]
