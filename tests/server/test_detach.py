"""Detached connections, and the attributes of uvicorn on which they rely."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from guestbook.server.detach import DetachableProtocol
from tests.support.raw import connect
from tests.support.waiting import eventually

Application = Callable[[Any, Any, Any], Any]
GET = b"GET / HTTP/1.1\r\nHost: guestbook\r\n\r\n"


class _Listener:
    """A server of one application: its state, and references to the protocols it made."""

    def __init__(self, app: Application) -> None:
        self._config = uvicorn.Config(app, ws="none", log_config=None)
        self._config.load()
        self.state = uvicorn.Server(self._config).server_state
        self.protocols: list[weakref.ref[DetachableProtocol]] = []

    def make(self) -> DetachableProtocol:
        protocol = DetachableProtocol(self._config, self.state, {})
        self.protocols.append(weakref.ref(protocol))
        return protocol


@contextlib.asynccontextmanager
async def _connected(
    app: Application,
) -> AsyncIterator[tuple[_Listener, asyncio.StreamReader, asyncio.StreamWriter]]:
    listener = _Listener(app)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(listener.make, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(60), connect(port) as (reader, writer):
            yield listener, reader, writer


_OVERRIDDEN = (
    "on_message_begin connection_made connection_lost data_received on_url on_headers_complete "
    "on_message_complete on_response_complete pause_writing resume_writing"
)
_OF_THE_SERVER = "capture_signals handle_exit main_loop on_tick startup shutdown"
_OF_A_PROTOCOL = "cycle transport flow parser scope url headers client server scheme connections"
_OF_A_CYCLE = (
    "disconnected response_complete response_started keep_alive chunked_encoding "
    "expected_content_length send"
)


def _lacks(thing: object, names: str) -> list[str]:
    return [name for name in names.split() if not hasattr(thing, name)]


async def test_uvicorn_has_what_the_server_relies_on() -> None:
    """The methods that are overridden and the attributes that are read exist in this uvicorn."""
    assert _lacks(HttpToolsProtocol, _OVERRIDDEN) == []
    assert _lacks(uvicorn.Server, _OF_THE_SERVER) == []
    seen: list[tuple[HttpToolsProtocol, RequestResponseCycle]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        protocol = listener.protocols[0]()
        assert protocol is not None
        seen.append((protocol, protocol.cycle))
        await send({"type": "http.response.body", "body": b""})

    async with _connected(app) as (listener, reader, writer):
        server = uvicorn.Server(uvicorn.Config(app))
        assert _lacks(server, "should_exit force_exit server_state") == []
        assert isinstance(listener.state.default_headers, list)
        writer.write(GET)
        assert await reader.readuntil(b"\r\n\r\n")
    ((protocol, cycle),) = seen
    assert _lacks(protocol, _OF_A_PROTOCOL) == []
    assert not protocol.pipeline
    assert callable(protocol.flow.resume_reading)
    assert protocol.server_state is listener.state
    assert _lacks(cycle, _OF_A_CYCLE) == []
    assert isinstance(cycle.message_event, asyncio.Event)
    assert cycle.scope["http_version"] == "1.1"


async def test_detached_connection_leaves_nothing_of_its_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Task, protocol and parser are freed at once, by reference counting alone."""
    sockets: list[socket.socket] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        detached = scope["extensions"]["guestbook.detach"]()
        assert detached.getblocking() is False
        detached.send(b"written by the application")
        sockets.append(detached)
        # The server ignores everything from now on.
        await send({"type": "http.response.start", "status": 500, "headers": []})
        assert scope["extensions"]["guestbook.detach"]() is None

    gc.collect()
    caplog.clear()  # what it found of earlier tests
    gc.disable()
    try:
        async with _connected(app) as (listener, reader, writer):
            writer.write(GET)
            assert await reader.readexactly(26) == b"written by the application"
            await eventually(lambda: not listener.state.tasks and not listener.state.connections)
            await eventually(lambda: listener.protocols[0]() is None)
            sockets[0].send(b"still open")
            assert await reader.readexactly(10) == b"still open"
            writer.write(b"in both directions")
            await eventually(lambda: _received(sockets[0]) == b"in both directions")
            sockets[0].close()
            assert await reader.read() == b""
    finally:
        gc.enable()
    assert not caplog.records


def _received(detached: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return detached.recv(100)
    return b""


@pytest.mark.parametrize(
    ("request_bytes", "responses"),
    [
        pytest.param(GET.replace(b"1.1", b"1.0"), 1, id="HTTP/1.0"),
        pytest.param(GET * 2, 2, id="pipelined"),
    ],
)
async def test_connection_stays_with_the_server_where_it_must(
    request_bytes: bytes, responses: int
) -> None:
    """The application gets None and answers through the server."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        detached = scope["extensions"]["guestbook.detach"]()
        results.append(detached)
        if detached is not None:
            detached.send(b"detached")
            detached.close()
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    results: list[socket.socket | None] = []
    async with _connected(app) as (listener, reader, writer):
        writer.write(request_bytes)
        assert await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: len(results) == responses)
        await eventually(lambda: not listener.state.tasks)
        assert results[0] is None


async def test_connection_is_not_detached_after_its_response_began() -> None:
    """Server and application would both write to the socket."""
    results: list[socket.socket | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        results.append(scope["extensions"]["guestbook.detach"]())
        await send({"type": "http.response.body", "body": b""})

    async with _connected(app) as (_, reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        assert results == [None]


async def test_connection_can_be_aborted() -> None:
    """The response ends, the application sees a disconnect, and nothing is logged."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope["extensions"]["guestbook.abort"]()
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    async with _connected(app) as (listener, reader, writer):
        writer.write(GET)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await eventually(lambda: not listener.state.tasks and not listener.state.connections)


@pytest.mark.parametrize(
    ("headers", "framing"),
    [([], b""), ([(b"Content-Length", b"11")], b"content-length: 11\r\n")],
    ids=["unknown length", "known length"],
)
async def test_http_1_0_gets_no_chunks(headers: list[tuple[bytes, bytes]], framing: bytes) -> None:
    """A body of unknown length ends with the connection (RFC 9112, section 6.1)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"in two", "more_body": True})
        await send({"type": "http.response.body", "body": b" ones"})

    async with _connected(app) as (_, reader, writer):
        writer.write(GET.replace(b"1.1", b"1.0"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head + b"\r\n" == b"HTTP/1.1 200 OK\r\n%sconnection: close\r\n" % framing
        assert body == b"in two ones"
