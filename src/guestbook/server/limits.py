"""Limits for the size of requests and the time that clients may take; uvicorn has hardly any.

The server also works without this file: `server.py` then names `DetachableProtocol`. Like
server/detach.py, it relies on attributes that uvicorn does not document; the same test guards them.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import httptools
import structlog
from httptools import HttpParserInvalidMethodError as InvalidMethodError

from guestbook.core import PROBLEM_TYPE, ProblemError, UnavailableError
from guestbook.server import heads
from guestbook.server.detach import DetachableProtocol
from guestbook.server.heads import Headers
from guestbook.server.timeouts import ConnectionTimeouts

logger = structlog.get_logger(__name__)

# The size of a body, chunk framing included; the application reads less.
_MAX_BODY_BYTES = 256 * 1024
# The size of pipelined requests at which reading is paused.
_MAX_PENDING_BYTES = 64 * 1024
# How long the rest of a request may take when the server stops.
_REST_SECONDS = 1.0
# RFC 9112, section 3: a token, a target without spaces, and the version.
_REQUEST_LINE = re.compile(rb"[\w!#$%&'*+.^`|~-]+ [^ ]+ HTTP/1\.[01]\r\n", re.ASCII)


@dataclass(frozen=True)
class Bounds:
    """The limits and callbacks that all connections of a server share."""

    timeouts: ConnectionTimeouts
    max_head_bytes: int
    on_reject: Callable[[int, Headers], Mapping[str, str]]
    """Called for each error of the server itself, with the status and the headers of the request
    as far as they were read; returns headers for the answer."""


class BoundedProtocol(DetachableProtocol):
    """An HTTP connection that reads one request at a time, and limits it.

    Pipelined requests wait until the one before is answered. So an error always belongs to the
    current request, and can be answered unless its response has begun.
    """

    # The part of the request that is being read, and the bytes received of it.
    _part: Literal["head", "body"] | None = None
    _size = 0
    # The missing bytes of a body with a known length.
    _missing = 0
    # Received bytes that are not parsed yet, and the last three parsed bytes.
    _pending = b""
    _tail = b""
    _is_rejected = False
    _unsent = 0

    def __init__(self, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bounds = bounds
        self._timeouts = bounds.timeouts

    # Reading

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timeouts.add(self)

    def data_received(self, data: bytes) -> None:
        """Replace uvicorn's, which parses everything at once and has no bounds."""
        if not self._is_rejected:
            self._pending += data
            self._parse()

    def _parse(self) -> None:
        while self._pending and not (self._is_rejected or self._is_answering):
            piece = self._next_piece()
            self._size += len(piece)
            try:
                self._feed(piece)
                self._check_size()
            except ProblemError as problem:
                self._reject(problem)
            except httptools.HttpParserError as error:
                # The parser keeps an exception of a callback as its context.
                known = error.__context__ if isinstance(error.__context__, ProblemError) else None
                if _REQUEST_LINE.match(piece) and isinstance(error, InvalidMethodError):
                    known = ProblemError(501, "There is no such method.")
                self._reject(known or ProblemError(400, "This is not a request of HTTP/1.1."))
        if len(self._pending) > _MAX_PENDING_BYTES:
            self.flow.pause_reading()

    def _feed(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
            return
        except httptools.HttpParserUpgrade:
            pass
        # For an upgrade this parser would keep everything that follows, even the body.
        parser = self.parser
        version = parser.get_http_version()
        head = heads.without_upgrade(parser.get_method(), self.url, version, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head)

    @property
    def _is_answering(self) -> bool:
        """Whether a request was read and its response is not complete."""
        return self._part is None and self.cycle is not None and not self.cycle.response_complete

    def _next_piece(self) -> bytes:
        """Take pending bytes up to a possible end of the request.

        A head and a chunked body end with an empty line, any other body after its length. (Cutting
        at an empty line elsewhere does no harm.)
        """
        if self._missing:
            size = self._missing
            self._missing -= min(size, len(self._pending))
        elif (seam := (self._tail + self._pending[:3]).find(heads.END)) >= 0:
            size = seam + len(heads.END) - len(self._tail)
        elif (end := self._pending.find(heads.END)) >= 0:
            size = end + len(heads.END)
        else:
            size = len(self._pending)
        piece, self._pending = self._pending[:size], self._pending[size:]
        self._tail = (self._tail + piece[-3:])[-3:]
        return piece

    def _check_size(self) -> None:
        if self._part == "head" and self._size > self._bounds.max_head_bytes:
            if len(self.url) > self._bounds.max_head_bytes:
                raise ProblemError(414, "The address is too long.")
            raise ProblemError(431, "The head of the request is too long.")
        if self._part == "body" and self._size > _MAX_BODY_BYTES:
            raise ProblemError(413, "The body is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = "head"
        if self.cycle is not None:
            self._timeouts.expect_request(self)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # the head is parsed again, without the upgrade
        self._check_size()
        version = self.parser.get_http_version()
        heads.check(version, self.headers)
        if self.parser.should_upgrade():
            raise ProblemError(405, "This is not a proxy.", headers={"Allow": "GET, HEAD"})
        if not self.url.startswith((b"/", b"*")):
            # Its host wins over Host.
            host, self.url = heads.split_target(self.url)
            self.headers[:] = [(b"host", host), *(h for h in self.headers if h[0] != b"host")]
        if version == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()
        self._part = "body"
        self._size = 0
        lengths = heads.values(self.headers, b"content-length")
        self._missing = int(lengths[0]) if lengths else 0
        # Trailers must not be taken for headers (RFC 9110, section 6.5.1).
        self.headers = []

    def on_message_complete(self) -> None:
        if self._part == "head":
            return  # an upgrade, see above
        self._check_size()
        self._part = None
        self._size = 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._timeouts.expect_more(self)
        else:
            self._timeouts.clear(self)

    # Answering

    def on_response_complete(self) -> None:
        """Replace uvicorn's, which sets a timer for each connection."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._part is None:
            self._timeouts.expect_more(self)
            self._parse()
        elif self.expect_100_continue:
            # Whether the client sends the body all the same cannot be known.
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._part is None:
            self._timeouts.expect_more(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = 0
        if self._is_answering:
            self._timeouts.clear(self)

    # The end

    def _reject(self, problem: ProblemError) -> None:
        """Answer with a problem if that is still possible, and read no more."""
        self._is_rejected = True
        self._pending = b""
        self._timeouts.expect_request(self)
        if self._may_answer:
            self._answer(problem)
        elif not self.cycle.response_complete:
            self.transport.abort()
            return
        self._disconnect()
        # If it were closed now, the kernel would drop the answer when more data arrives.
        self.transport.write_eof()

    @property
    def _may_answer(self) -> bool:
        return self._part != "body" or not self.cycle.response_started

    def _answer(self, problem: ProblemError) -> None:
        received = self.scope["headers"] if self.scope else []
        headers = self._bounds.on_reject(problem.status, received)
        address = self.client[0] if self.client else ""
        logger.info(
            "rejected a request", status=problem.status, reason=problem.detail, address=address
        )
        body = problem.json()
        fields = {
            **headers,
            **problem.headers,
            "cache-control": "no-store",
            "content-type": PROBLEM_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
        }
        lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n".encode()]
        lines += [b"%s: %s\r\n" % field for field in self.server_state.default_headers]
        lines += [f"{name.lower()}: {value}\r\n".encode() for name, value in fields.items()]
        self.transport.write(b"".join(lines) + b"\r\n" + body)

    def _close(self, problem: ProblemError | None) -> None:
        is_stuck = self.transport.get_write_buffer_size() > 0
        if problem is not None and not is_stuck and not self._is_rejected and self._may_answer:
            self._answer(problem)
        self._disconnect()
        if is_stuck:
            self.transport.abort()
        else:
            self.transport.close()

    def _disconnect(self) -> None:
        """Let the application see that the client is gone."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def time_out(self) -> bool:
        """Close the connection; return False if the client is still reading a response."""
        unsent = self.transport.get_write_buffer_size()
        is_moving = unsent and (not self._unsent or unsent < self._unsent)
        self._unsent = unsent
        if is_moving and self._part is None and not self._is_rejected:
            return False
        late = ProblemError(408, "The request did not arrive in time.")
        self._close(late if self._part else None)
        return True

    def shutdown(self) -> None:
        """Wait a moment for the rest of a request; uvicorn would wait until it is cancelled."""
        if self._part:
            asyncio.get_running_loop().call_later(_REST_SECONDS, self._abandon)
        else:
            super().shutdown()

    def _abandon(self) -> None:
        if self._part and not self.transport.is_closing():
            self._close(UnavailableError("This pod is about to stop: another one serves you."))

    def evict(self) -> None:
        """Close the connection to make room for another one."""
        crowded = UnavailableError("Too many connections: try again.")
        self._close(crowded if self._part or self.cycle is None else None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timeouts.remove(self)
        super().connection_lost(exc)

    def detach(self) -> socket.socket | None:
        """Return the socket, or None if another request was pipelined."""
        return None if self._pending else super().detach()
