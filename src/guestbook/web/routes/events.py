"""`GET /events`: opens a stream, on the connection itself where the server hands it over."""

from __future__ import annotations

import functools
import time
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from guestbook.broadcast import HAS_EPOLL, AsgiStream, SocketStream, SocketWatcher
from guestbook.core import EntryId, UnavailableError
from guestbook.pod import Guestbook
from guestbook.telemetry import REQUEST_ID, current_id
from guestbook.web.csrf import cors_headers
from guestbook.web.dependencies import ID_SCHEMA, parse_id, query_id
from guestbook.web.schemas import problems
from guestbook.web.security_headers import RAW_SECURITY_HEADERS

PATH = "/events"
DETACH = "guestbook.detach"
"""The ASGI extension that hands a connection over: `detach() -> socket.socket | None`."""
ABORT = "guestbook.abort"
"""The ASGI extension that cuts a connection: `abort()`."""

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_FIELDS = b"".join(b"%s: %s\r\n" % field for field in [*RAW_SECURITY_HEADERS, *_HEADERS])
_RETRY_AFTER: dict[str, Any] = {"soonest": 2, "latest": 15}


router = APIRouter()


@router.get(
    PATH,
    tags=["events"],
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: messages without a name, and `edited`, `deleted`, "
            "`pods`, `ping`, `reset`, `bye`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(422, 503),
    },
    summary="Follow the guestbook",
)
async def events(
    after: Annotated[
        EntryId | None, query_id("after", "Continue after this id (unset: from now on)")
    ],
    last_event_id: Annotated[
        str | None,
        Header(
            description="As `after`, and preferred: a browser sends it when it reconnects",
            json_schema_extra=ID_SCHEMA,
        ),
    ] = None,
) -> None:
    """Describe the route: the middleware calls `Events` before FastAPI sees a request."""


class Events:
    """The endpoint, as a plain ASGI application.

    Ten thousand browsers may open their streams at once, and FastAPI's handling of a request would
    be most of what that costs.
    """

    def __init__(self) -> None:
        self._watcher = SocketWatcher() if HAS_EPOLL else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guestbook: Guestbook = scope["app"].state.guestbook
        fanout = guestbook.fanout
        address = scope["client"][0] if scope["client"] else ""
        cursor = _cursor(scope)
        _refuse_if_full(guestbook, address)
        scope["app"].state.metrics.count_request("GET", PATH, 200, None)
        request_id = current_id.get()
        extensions = scope.get("extensions", {})
        detach = extensions.get(DETACH)
        if self._watcher and detach and (connection := detach()):
            allowed = guestbook.settings.allow_origins
            cors = cors_headers(allowed, Headers(scope=scope)) if allowed else {}
            stream = SocketStream(fanout, address, cursor, request_id)
            stream.open(self._watcher, connection, _head(request_id, cors))
            scope["state"]["status"] = 200
        else:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            through_send = AsgiStream(fanout, address, cursor, request_id)
            await through_send.run(receive, send, extensions.get(ABORT))


def _refuse_if_full(guestbook: Guestbook, address: str) -> None:
    fanout, settings = guestbook.fanout, guestbook.settings
    most_per_address = settings.max_streams_per_address
    if fanout.is_draining:
        fanout.counts.refused["drain"] += 1
        raise UnavailableError("This pod is about to stop: another one serves you.", latest=3)
    if len(fanout) >= settings.max_streams:
        fanout.counts.refused["limit"] += 1
        raise UnavailableError(
            "This pod has all the streams that it may have: try again later.", **_RETRY_AFTER
        )
    if most_per_address is not None and fanout.count_streams_of(address) >= most_per_address:
        fanout.counts.refused["address limit"] += 1
        raise UnavailableError(
            f"Your address has {most_per_address} streams open, as many as it may: close one.",
            **_RETRY_AFTER,
        )


def _cursor(scope: Scope) -> EntryId | None:
    for name, value in scope["headers"]:
        if name == b"last-event-id" and value:
            return parse_id("Last-Event-ID", value.decode("latin-1"))
    after = QueryParams(scope["query_string"]).get("after") if scope["query_string"] else None
    return parse_id("after", after) if after else None


def _head(request_id: str, cors: dict[str, str]) -> bytes:
    """Return the response's head, as the server and the middleware would make it."""
    return b"HTTP/1.1 200 OK\r\ndate: %s\r\n%s%s%s: %s\r\ntransfer-encoding: chunked\r\n\r\n" % (
        _date(int(time.time())),
        _FIELDS,
        b"".join(f"{name}: {value}\r\n".encode() for name, value in cors.items()),
        REQUEST_ID,
        request_id.encode(),
    )


@functools.lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
