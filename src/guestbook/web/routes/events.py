"""The route of the stream, and how one is written to where the server keeps its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate

from starlette.datastructures import QueryParams
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from guestbook.broadcast import IS_POSSIBLE, Fanout, Sockets, SocketStream, Stream
from guestbook.core import EntryId, unavailable
from guestbook.pod import Guestbook
from guestbook.telemetry import HEADER, current_id
from guestbook.web.routes.messages import parse_cursor
from guestbook.web.security_headers import SECURITY_HEADERS

DETACH = "guestbook.detach"
"""The ASGI extension that hands a connection over: `detach() -> socket.socket | None`."""
ABORT = "guestbook.abort"
"""The ASGI extension that cuts a connection: `abort()`."""

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_SECURITY_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
]
_BUFFER_BYTES = 64 * 1024
_BUSY_SECONDS = (2, 15)


class SendStream(Stream):
    """A stream through ASGI's `send`, where the server does not hand its connection over."""

    __slots__ = ("_cut", "_fanout", "_is_finished", "_outbox", "_size", "_wake", "_writing")

    def __init__(
        self,
        fanout: Fanout,
        address: str,
        cursor: EntryId | None,
        request_id: str,
        cut: Callable[[], None] | None,
    ) -> None:
        super().__init__(address, cursor, request_id)
        self._fanout = fanout
        self._cut = cut
        self._outbox: list[bytes | memoryview] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._is_finished = False
        self._writing: asyncio.Task[None] | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Serves the stream until it ends or its client leaves."""
        self._writing = asyncio.create_task(self._write_on(send))
        leaving = asyncio.create_task(self._until_gone(receive))
        try:
            self._fanout.open(self)
            await asyncio.wait((self._writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (self._writing, leaving):
                task.cancel()
            await asyncio.gather(self._writing, leaving, return_exceptions=True)
            self._fanout.leave(self, "client gone")

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _write_on(self, send: Send) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            data = b"".join(self._outbox)
            self._outbox.clear()
            is_last = self._is_finished
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})
            if is_last:
                return
            self._size = sum(map(len, self._outbox))
            if self.paused_at is not None and not self._outbox:
                self._fanout.resume(self)

    @staticmethod
    def frame(data: bytes) -> bytes:
        return data

    def send(self, framed: bytes | memoryview) -> int:
        """Nothing can be sent at once here."""
        return 0

    def write(self, framed: bytes | memoryview) -> None:
        self._outbox.append(framed)
        self._size += len(framed)
        self._wake.set()
        if self._size > _BUFFER_BYTES and self.paused_at is None:
            self._fanout.pause(self)

    def finish(self) -> None:
        self._is_finished = True
        self._wake.set()

    def abort(self) -> None:
        if self._cut is not None:
            self._cut()
        elif self._writing is not None:
            self._writing.cancel()


class Events:
    """The endpoint `/events`.

    A plain ASGI application: what FastAPI keeps around an answer is of no use to one that goes on
    for hours, and would be most of what it costs to open a stream.
    """

    def __init__(self, guestbook: Guestbook) -> None:
        self._fanout = guestbook.fanout
        self._settings = guestbook.settings
        self._sockets = Sockets() if IS_POSSIBLE else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope["client"][0] if scope["client"] else ""
        cursor = _cursor(scope)
        self._refuse_if_full(address)
        request_id = current_id.get()
        extensions = scope.get("extensions", {})
        detach = extensions.get(DETACH)
        own = detach() if detach is not None and self._sockets is not None else None
        if own is not None and self._sockets is not None:
            detached = SocketStream(self._fanout, self._sockets, address, cursor, request_id)
            detached.take(own, _head(request_id))
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        stream = SendStream(self._fanout, address, cursor, request_id, extensions.get(ABORT))
        await stream.run(receive, send)

    def _refuse_if_full(self, address: str) -> None:
        soonest, latest = _BUSY_SECONDS
        at_most = self._settings.max_streams_per_address
        if self._fanout.is_draining:
            self._fanout.refused["drain"] += 1
            raise unavailable("This pod is about to stop: another one serves you.", latest=3)
        if len(self._fanout) >= self._settings.max_streams:
            self._fanout.refused["limit"] += 1
            raise unavailable(
                "This pod has all the streams that it may have: try again later.",
                soonest=soonest,
                latest=latest,
            )
        if at_most is not None and self._fanout.held_by(address) >= at_most:
            self._fanout.refused["address limit"] += 1
            raise unavailable(
                f"Your address has {at_most} streams open, as many as it may: close one.",
                soonest=soonest,
                latest=latest,
            )


def _head(request_id: str) -> bytes:
    fields = [
        (b"date", formatdate(usegmt=True).encode()),
        *_SECURITY_HEADERS,
        *_HEADERS,
        (HEADER, request_id.encode()),
        (b"transfer-encoding", b"chunked"),
    ]
    return b"HTTP/1.1 200 OK\r\n%s\r\n" % b"".join(b"%s: %s\r\n" % field for field in fields)


def _cursor(scope: Scope) -> EntryId | None:
    for name, value in scope["headers"]:
        if name == b"last-event-id" and value:
            return parse_cursor("Last-Event-ID", value.decode("latin-1"))
    after = QueryParams(scope["query_string"]).get("after") if scope["query_string"] else None
    return parse_cursor("after", after) if after else None


def route(guestbook: Guestbook) -> Route:
    """The route `/events`; `schema` describes it."""
    events = Route("/events", Events(guestbook), methods=["GET"])
    # What would a HEAD tell of a stream?
    events.methods = {"GET"}
    return events
