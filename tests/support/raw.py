"""A client that sends any bytes, whether they are HTTP or not."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Self

from tests.support.servers import Server


async def drop(writer: asyncio.StreamWriter) -> None:
    """Drop a connection without closing it properly, and wait until it is gone."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def connect(
    port: int, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection, and drop it at the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        await drop(writer)


class Raw:
    """One connection."""

    def __init__(self, server: Server) -> None:
        self._port = server.port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await drop(self.writer)

    async def send(self, *parts: bytes, every: float = 0) -> None:
        """Send the parts, unless the server closes the connection before."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
                await asyncio.sleep(every)

    async def end(self) -> bytes:
        """Return what the server sends until it closes the connection."""
        received = b""
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(2**16):
                    received += data
        return received


def statuses(received: bytes) -> list[int]:
    """Return the status of each response."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


async def exchange(server: Server, *parts: bytes) -> bytes:
    """Send the parts on a new connection; return what is received until it is closed."""
    async with Raw(server) as client:
        await client.send(*parts, every=0.05 if len(parts) > 1 else 0)
        return await client.end()
