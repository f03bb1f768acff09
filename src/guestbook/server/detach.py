"""Hand a connection over to the application, as uvicorn does only for WebSockets.

This file relies on attributes of uvicorn's protocol that its documentation does not mention.
`test_uvicorn_has_what_the_server_relies_on` guards them, and pyproject.toml bounds the version.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class DetachableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with two extensions in the scope of each request.

    `guestbook.detach` is the method `detach`; `guestbook.abort` closes the connection at once and
    drops what the client has not read yet.

    A client of HTTP/1.0 gets no chunks, which uvicorn would send it (RFC 9112, section 6.1).
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Replace uvicorn's, which makes sockets to ask for addresses that the transport has."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.scheme = "http"
        # An IPv6 address has two more parts. The client may be gone already.
        self.server = transport.get_extra_info("sockname")[:2]
        self.client = (transport.get_extra_info("peername") or ())[:2] or None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {
            "guestbook.detach": self.detach,
            "guestbook.abort": self.transport.abort,
        }
        self.scope["extensions"] = extensions

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.cycle is not None:
            _send_without_chunks(self.cycle)

    def detach(self) -> socket.socket | None:
        """Return the connection's socket; the application now has to write to it and close it.

        Call this before a response was started; `send` is ignored afterwards. Returns None if the
        connection cannot be detached: the client is gone or speaks HTTP/1.0, an earlier response
        has not been sent completely, another request was pipelined, or the process has too many
        open files.
        """
        cycle = self.cycle
        if (
            cycle is None
            or cycle.disconnected
            or cycle.response_started
            or cycle.scope["http_version"] != "1.1"
            or self.pipeline
            or self.transport.is_closing()
            or self.transport.get_write_buffer_size()
        ):
            return None
        try:
            detached: socket.socket = self.transport.get_extra_info("socket").dup()
        except OSError:
            return None
        # uvicorn then ignores what is sent, and does not complain about an incomplete response.
        cycle.disconnected = True
        # This closes one of two descriptors: the connection stays open through the other.
        self.transport.abort()
        return detached

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # The protocol refers to the request, and the request's scope to the protocol: without this
        # both would stay in memory until the garbage collector runs.
        self.cycle = None  # type: ignore[assignment]  # uvicorn itself sets it to None at first
        self.scope = None  # type: ignore[assignment]  # likewise


def _send_without_chunks(cycle: RequestResponseCycle) -> None:
    """Have a body of unknown length end with the connection."""
    send = cycle.send
    has_length = True

    async def send_unframed(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = None if has_length else False
        elif not has_length:
            # uvicorn compares it with what it sends.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unframed  # type: ignore[method-assign]
