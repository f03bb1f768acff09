"""Streams through ASGI's `send`, for servers that do not hand over a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from guestbook.broadcast.stream import Stream

_BUFFER_BYTES = 64 * 1024

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiStream(Stream):
    """A stream through ASGI's `send`."""

    __slots__ = ("_buffer", "_cut", "_has_data", "_is_finished", "_size", "_writer")

    async def run(
        self, receive: _Receive, send: _Send, cut: Callable[[], None] | None = None
    ) -> None:
        """Serve the stream until it ends or its client leaves, after `http.response.start`.

        `cut` closes the connection at once, where the server offers that.
        """
        self.channel = self
        self._cut = cut
        self._buffer: list[bytes | memoryview] = []
        self._size = 0
        self._has_data = asyncio.Event()
        self._is_finished = False
        self._writer = asyncio.create_task(self._write_all(send))
        disconnect = asyncio.create_task(_until_disconnect(receive))
        try:
            self._fanout.open(self)
            await asyncio.wait((self._writer, disconnect), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (self._writer, disconnect):
                task.cancel()
            await asyncio.gather(self._writer, disconnect, return_exceptions=True)
            self._fanout.connection_lost(self)

    async def _write_all(self, send: _Send) -> None:
        while True:
            await self._has_data.wait()
            self._has_data.clear()
            data = b"".join(self._buffer)
            self._buffer.clear()
            is_last = self._is_finished
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})
            if is_last:
                return
            self._size = sum(map(len, self._buffer))
            if self.paused_at is not None and not self._buffer:
                self._fanout.resume(self)

    @staticmethod
    def frame(data: bytes) -> bytes:
        return data

    @staticmethod
    def send(channel: AsgiStream, framed: bytes | memoryview, /) -> int:  # noqa: ARG004  # as all kinds
        """Send nothing: `send` of ASGI has to be awaited."""
        return 0

    def write(self, framed: bytes | memoryview) -> None:
        self._buffer.append(framed)
        self._size += len(framed)
        self._has_data.set()
        if self._size > _BUFFER_BYTES and self.paused_at is None:
            self._fanout.pause(self)

    def finish(self) -> None:
        self._is_finished = True
        self._has_data.set()

    def abort(self) -> None:
        (self._cut or self._writer.cancel)()


async def _until_disconnect(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
