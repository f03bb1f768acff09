"""A faulty proxy between a client and a server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Self

from tests.support.ports import free_port


class BlackHole:
    """A port at which a connection is neither accepted nor refused, as behind a firewall."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._port = port
        self._host = host
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        listener = socket.socket()
        self._sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._host, self._port))
        listener.listen(0)
        self.address = f"{self._host}:{listener.getsockname()[1]}"
        # Once its queue is full the kernel leaves further connections without an answer.
        while True:
            filler = socket.socket()
            filler.settimeout(0.2)
            self._sockets.append(filler)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


class Proxy:
    """A TCP proxy in front of a server on this machine that loses, delays and cuts.

    `target` is the port to which new connections go. `loses` is called with each request: once it
    returns true, the connection's replies are lost. A reply is cut after `cut_after` bytes if that
    is set, a connection after `idle_seconds` of silence.
    """

    def __init__(
        self, port: int, *, idle_seconds: float | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.target = port
        self._tls = tls
        # Not one of the kernel's, which may have another user when it listens again.
        self.port = free_port()
        self._idle_seconds = idle_seconds
        self._server: asyncio.Server | None = None
        self._is_over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.delay = 0.0
        self.loses: Callable[[bytes], bool] = lambda _request: False
        self.cut_after: int | None = None
        self.lost = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await self.refuse()
        await self.cut()

    async def listen(self) -> None:
        """Accept connections, always at the same port."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls
        )

    async def refuse(self) -> None:
        """Accept no new connections; open ones keep working."""
        assert self._server is not None
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        # asyncio never closes what it has just accepted if the server closes before the next turn.
        await asyncio.sleep(0)
        self._server.close()

    async def cut(self) -> None:
        """Cut every connection; new ones work."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def swallow(self) -> None:
        """Accept connections and data, and pass nothing on in either direction."""
        self._passes.clear()

    def let_pass(self) -> None:
        self._passes.set()

    def let_new_pass(self) -> None:
        """As when a router has lost its table: what was open stays silent for good."""
        self._passes = asyncio.Event()
        self._passes.set()

    def lose_once(self, word: bytes) -> asyncio.Event:
        """Lose the replies on the connection that next sends this; return an event for it."""
        happened = asyncio.Event()

        def loses(request: bytes) -> bool:
            if word not in request or happened.is_set():
                return False
            happened.set()
            return True

        self.loses = loses
        return happened

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Data that the kernel has accepted arrives here some turns of the loop later.
        if self._is_over:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before it begins closes nothing.
        task.add_done_callback(lambda _task: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        state = {"lost": False}
        passes = self._passes
        try:
            await passes.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            ways = (
                self._requests(reader, far_writer, passes, state),
                self._replies(far_reader, writer, passes, state),
            )
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            if far_writer is not None:
                far_writer.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: asyncio.Event,
        state: dict[str, bool],
    ) -> None:
        while data := await reader.read(2**16):
            await passes.wait()
            if self.loses(data):
                state["lost"] = True
            writer.write(data)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """The next data; nothing if the connection is silent for too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._idle_seconds):
                return await reader.read(2**16)
        return b""

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: asyncio.Event,
        state: dict[str, bool],
    ) -> None:
        while data := await self._read(reader):
            await asyncio.sleep(self.delay)
            await passes.wait()
            if not state["lost"]:
                writer.write(data)
                continue
            self.lost += 1
            if self.cut_after is not None:
                writer.write(data[: self.cut_after])
                await writer.drain()
                return
