"""A client that sends bytes, whatever they mean as HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Self

from tests.support.servers import Server


class Raw:
    """One connection."""

    def __init__(self, server: Server) -> None:
        self._port = server.port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, *parts: bytes, every: float = 0) -> None:
        """Sends on, until the server will have no more."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
                await asyncio.sleep(every)

    async def end(self) -> bytes:
        """What the server says before it closes the connection."""
        said = b""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(2**16):
                    said += data
        return said


def statuses(said: bytes) -> list[int]:
    """The status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


async def exchange(server: Server, *parts: bytes) -> bytes:
    """Sends bytes over a connection of their own; gives all that is said until it is closed."""
    async with Raw(server) as client:
        await client.send(*parts, every=0.05 if len(parts) > 1 else 0)
        return await client.end()
