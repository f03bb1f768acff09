"""What happens around every request: HEAD, and that it is observed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guestbook.pod import Guestbook
from guestbook.telemetry import HEADER, AccessLog, Metrics

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from guestbook.telemetry.tracing import Tracing

_PROBES = frozenset({"/healthz", "/ready", "/metrics"})
_STREAM = "/events"

# A HEAD asks what a GET would answer. A stream has no end, and pushing is not asking.
_NO_HEAD = ("/events", "/rpush/")


class HeadMiddleware:
    """Answers HEAD as GET; that no body goes out is the server's part."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] == "HEAD"
            and not scope["path"].startswith(_NO_HEAD)
        ):
            asked = {**scope, "method": "GET"}
            await self._app(asked, receive, send)
            # Who observes it wants to know which route it has found.
            scope.update(asked, method="HEAD")
        else:
            await self._app(scope, receive, send)


class AccessLogMiddleware:
    """Counts, logs and traces each request; closes the connections of a process that drains."""

    def __init__(
        self,
        app: ASGIApp,
        guestbook: Guestbook,
        access_log: AccessLog,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._guestbook = guestbook
        self._access_log = access_log
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        span = self._begin_span(scope)
        trace_id = self._tracing.trace_id(span) if self._tracing and span else ""
        request_id = self._access_log.begin(scope["headers"], trace_id).encode()
        status = 500
        has_started = False

        async def send_named(message: Message) -> None:
            nonlocal status, has_started
            if message["type"] == "http.response.start":
                has_started = True
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER, request_id)]
                if self._guestbook.fanout.is_draining:
                    MutableHeaders(scope=message)["Connection"] = "close"
                if status == 200 and _route(scope) == _STREAM:
                    self._metrics.count_request(scope["method"], _STREAM, status, None)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
            if not has_started:
                # The stream has its connection to itself, and wrote the head of the response.
                status = 200
                self._metrics.count_request(scope["method"], _STREAM, status, None)
        finally:
            self._end(scope, status, time.perf_counter() - started, span)

    def _begin_span(self, scope: Scope) -> Span | None:
        if self._tracing is None or scope["path"] in _PROBES:
            return None
        return self._tracing.begin(
            scope["method"], scope["path"], scope["headers"], _address(scope)
        )

    def _end(self, scope: Scope, status: int, seconds: float, span: Span | None) -> None:
        method, route = scope["method"], _route(scope)
        # A stream was counted when it opened, and is logged by the fan-out when it ends.
        if route != _STREAM or status != 200:
            self._metrics.count_request(method, route, status, seconds)
            if scope["path"] not in _PROBES:
                self._access_log(
                    method=method,
                    path=scope["raw_path"],
                    status=status,
                    seconds=seconds,
                    address=_address(scope),
                )
        if self._tracing is not None and span is not None:
            self._tracing.end(span, method, route, status)


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope["client"] else ""


def _route(scope: Scope) -> str:
    """Return the path as the route has it, so that clients cannot make up series."""
    if "route" in scope:
        return str(scope["route"].path)
    if "endpoint" in scope:
        # A plain route has no parameters; below a mounted application its root stands for all.
        return str(scope["root_path"] or scope["path"])
    return "none"
