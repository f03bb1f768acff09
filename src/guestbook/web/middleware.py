"""The middleware: security headers, methods, and a log line, metrics and trace of each request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guestbook.core import PROBLEM_TYPE, ProblemError, unmapped
from guestbook.pod import Guestbook
from guestbook.telemetry import REQUEST_ID, Metrics, begin_request, log_request
from guestbook.web import problems
from guestbook.web.body import MAX_BYTES
from guestbook.web.routes import events, moderation
from guestbook.web.security_headers import RAW_SECURITY_HEADERS

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from guestbook.telemetry.tracing import Tracing

_CLOSE = (b"connection", b"close")
# Without Cache-Control, caches choose for themselves how long they keep an answer.
_NO_STORE = (b"cache-control", b"no-store")

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"expect"})

_PROBES = frozenset({"/healthz", "/ready", "/metrics"})


class RequestMiddleware:
    """Names, counts, logs and traces each request, and adds the headers of every response.

    `state["status"]` of the scope is the status of a response that has begun.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        if scope["client"]:
            # IPv4 mapped to IPv6, from a proxy or from a socket for both families.
            scope["client"] = (unmapped(scope["client"][0]), scope["client"][1])
        span, trace_id = None, ""
        if self._tracing is not None and scope["path"] not in _PROBES:
            span = self._tracing.begin(scope)
            trace_id = self._tracing.trace_id(span)
        request_id = begin_request(scope["headers"], trace_id).encode()
        state = scope.setdefault("state", {})
        body = _Body(scope, receive)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                await body.finish()
                headers = [*message["headers"], *RAW_SECURITY_HEADERS, (REQUEST_ID, request_id)]
                if all(name != b"cache-control" for name, _ in message["headers"]):
                    headers.append(_NO_STORE)
                # A process that is stopping closes its connections.
                guestbook: Guestbook | None = getattr(scope["app"].state, "guestbook", None)
                if guestbook is not None and guestbook.fanout.is_draining:
                    headers.append(_CLOSE)
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, body.receive, send_with_headers)
        finally:
            self._end(scope, state.get("status", 500), time.perf_counter() - started, span)

    def _end(self, scope: Scope, status: int, seconds: float, span: Span | None) -> None:
        method, route = scope["method"], _route(scope)
        # A stream was counted when it opened, and is logged by the fan-out when it ends.
        if route != events.PATH or status != 200:
            is_stream = route == moderation.EVENTS
            self._metrics.count_request(
                method,
                route,
                status,
                None if is_stream else seconds,
                code=scope["state"].get("code", ""),
            )
            if scope["path"] not in _PROBES:
                log_request(scope, status, seconds)
        if self._tracing is not None and span is not None:
            self._tracing.end(span, method, route, status)


class RoutingMiddleware:
    """Answers OPTIONS, unknown methods and failures, and opens streams.

    Starlette's own answer to a failure goes past all middleware, and so has none of their headers.
    FastAPI's own middleware and router would make a stream cost a tenth more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._events = events.Events()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._route(scope, receive, send)
        except Exception as error:
            if "status" in scope["state"]:
                raise
            response = await problems.failure(Request(scope), error)
            await response(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" and scope["path"] == events.PATH:
            scope["endpoint"] = self._events
            await self._events(scope, receive, send)
        elif scope["method"] == "HEAD" and problems.has_head(scope["path"]):
            # Answer as GET: the server, which has its own scope, leaves the body out.
            as_get = {**scope, "method": "GET"}
            await self._app(as_get, receive, send)
            # The access log needs the matched route.
            scope.update(as_get, method="HEAD")
        elif scope["path"] == "*":
            # `OPTIONS *` asks for the options of the whole server (RFC 9110, section 9.3.7).
            await Response(status_code=204)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class ProblemCORSMiddleware(CORSMiddleware):
    """Starlette's, but a preflight that is refused is a problem, as every error is."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        error = ProblemError(response.status_code, f"{bytes(response.body).decode()}.")
        headers = {n: v for n, v in response.headers.items() if not n.startswith("content-")}
        return Response(error.json(), error.status, headers, media_type=PROBLEM_TYPE)


class _Body:
    """The body of a request, which is read to its end before the answer begins.

    Otherwise a proxy that has the answer may drop the rest and reuse the connection, as HAProxy
    does with HTTP/2 on its other side: the next request would be taken for the rest of this body.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = {name: value for name, value in scope["headers"] if name in _BODY_HEADERS}
        length = int(headers.get(b"content-length", 0))
        self._receive = receive
        self._size = length if length > MAX_BYTES else 0
        self._is_complete = not length and b"transfer-encoding" not in headers
        # Without a 100, the client may never send the body; then the connection is closed.
        self._is_held_back = b"expect" in headers

    async def receive(self) -> Message:
        """Return the next part, for the application."""
        self._is_held_back = False
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._is_complete = not message.get("more_body")
        return message

    async def finish(self) -> None:
        """Read the rest, unless the body is too long."""
        while not self._is_complete and not self._is_held_back and self._size <= MAX_BYTES:
            await self.receive()


def _route(scope: Scope) -> str:
    """Return the path of the matched route, so that clients cannot create new series."""
    if "route" in scope:
        return str(scope["route"].path)
    if "endpoint" in scope:
        # A plain route has no parameters; below a mounted application its root stands for all.
        is_mounted = "app_root_path" in scope
        path: str = scope["root_path"] if is_mounted else scope["path"]
        return path.removeprefix(scope.get("app_root_path", scope["root_path"]))
    return "none"
