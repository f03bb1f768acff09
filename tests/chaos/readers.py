"""Readers, which reconnect to any server with the id of the last event that they received."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Callable, Sequence
from random import Random
from typing import cast

from tests.support.servers import Server

_HEAD = b"GET /events HTTP/1.1\r\nHost: guestbook\r\nLast-Event-ID: %s\r\n\r\n"
_CONNECT_SECONDS = 5.0
_EVENT = re.compile(rb"(?:^|\n)id: (\d+-\d+)\n")
_NAME = re.compile(rb"(?:^|\n)event: (\w+)\n")


class Connection(asyncio.Protocol):
    """The connection of a stream, cheap enough for thousands of them.

    `on_event` gets each event that has an id: the id, the name and the raw event.
    """

    def __init__(self, cursor: str, on_event: Callable[[str, str, bytes], None]) -> None:
        self._cursor = cursor
        self._on_event = on_event
        self._raw = bytearray()
        self._text = bytearray()
        self.status = 0
        self.is_complete = False
        self.pings = 0
        self.pods = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(_HEAD % self._cursor.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def cut(self) -> None:
        """Drop the connection without closing it; ignore what arrives later."""
        self._on_event = lambda *_: None
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._raw += data
        if not self.status:
            head, end, rest = bytes(self._raw).partition(b"\r\n\r\n")
            if not end:
                return
            self.status = int(head.split(b" ", 2)[1])
            self._raw = bytearray(rest)
            if self.status != 200:
                self.transport.abort()
        self._take_chunks()
        self._take_events()

    def _take_chunks(self) -> None:
        """Decode the complete chunks of the body (RFC 9112, section 7.1)."""
        start = 0
        while (end := self._raw.find(b"\r\n", start)) >= 0:
            size = int(self._raw[start:end], 16)
            if len(self._raw) < end + size + 4:
                break
            self._text += self._raw[end + 2 : end + 2 + size]
            self.is_complete = size == 0
            start = end + size + 4
        del self._raw[:start]

    def _take_events(self) -> None:
        end = self._text.rfind(b"\n\n")
        if end < 0:
            return
        blocks = bytes(self._text[:end]).split(b"\n\n")
        del self._text[: end + 2]
        for block in blocks:
            named = _NAME.search(block) if b"event: " in block else None
            name = named[1].decode() if named else "message"
            found = _EVENT.search(block)
            # The first event has the cursor as its id: of this nothing was delivered.
            if found and name != "pods":
                self._on_event(found[1].decode(), name, block)
            self.pings += name == "ping"
            self.pods += name == "pods"


async def connect(
    port: int,
    cursor: str,
    on_event: Callable[[str, str, bytes], None],
    *,
    buffer_bytes: int | None = None,
) -> Connection:
    """Open a stream. Raises OSError and TimeoutError.

    `buffer_bytes` bounds what the kernel buffers for a client that does not read.
    """
    loop = asyncio.get_running_loop()
    own = socket.socket()
    own.setblocking(False)
    if buffer_bytes is not None:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await loop.sock_connect(own, ("127.0.0.1", port))
            _, connection = await loop.create_connection(
                lambda: Connection(cursor, on_event), sock=own
            )
    except BaseException:
        own.close()
        raise
    return connection


class Reader:
    """One visitor: the ids of all events that it received, in order."""

    def __init__(self, cursor: str, common: dict[str, bytes], complain: Callable[[str], None]):
        """`common` has each event by id, so that readers can compare what they received."""
        self.first = self.cursor = cursor
        self.ids: list[str] = []
        self.resets = 0
        self.visits = 0
        self.words: dict[str, str] = {}
        """The last texts of edited messages, by id."""
        self._common = common
        self._complain = complain
        self._last = ""
        self._leaving: asyncio.Future[None] | None = None

    def _take(self, event_id: str, name: str, event: bytes) -> None:
        self.cursor = event_id
        if name == "reset":
            self.resets += 1
        else:
            self.ids.append(event_id)
            if b'"edited_at":' in event:
                # An edited message is sent as it was or is, depending on when.
                message = json.loads(event.rpartition(b"data: ")[2])
                self.words[message["id"]] = message["text"]
            elif self._common.setdefault(event_id, event) != event:
                self._complain(f"{event_id} was sent as {event!r} and {self._common[event_id]!r}")
        if event_id == self._last and self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(None)

    async def read(self, servers: Sequence[Server], rng: Random) -> None:
        """Connect to server after server until `read_up_to` is reached."""
        while not self._last or self.cursor != self._last:
            with contextlib.suppress(OSError, TimeoutError):
                await self._visit(rng.choice(servers), seconds=rng.expovariate(1 / 8))
            await asyncio.sleep(rng.uniform(0.02, 0.5))

    async def _visit(self, server: Server, seconds: float) -> None:
        self.visits += 1
        connection = await connect(server.port, self.cursor, self._take)
        self._leaving = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait(
                (connection.gone, self._leaving),
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            connection.cut()

    def read_up_to(self, last: str) -> None:
        """End the reader when it has received this entry."""
        self._last = last
        if self.cursor == last and self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(None)
