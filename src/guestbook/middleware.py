"""What happens around every request: HEAD, the log line, the metrics."""

from __future__ import annotations

import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guestbook.guestbook import Guestbook
from guestbook.metrics import Metrics

# A HEAD asks what a GET would answer. A stream has no end, and pushing is not asking.
_NO_HEAD = ("/events", "/rpush/")
_PROBES = ("/healthz", "/ready", "/metrics")

logger = structlog.get_logger(__name__)


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
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class ObserveMiddleware:
    """Logs and counts each request; tells clients of a draining process to connect anew."""

    def __init__(self, app: ASGIApp, guestbook: Guestbook, metrics: Metrics) -> None:
        self._app = app
        self._guestbook = guestbook
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._guestbook.fanout.is_draining:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        self._metrics.requests.labels(scope["method"], route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if scope["path"] in _PROBES:
            return
        logger.info(
            "request",
            method=scope["method"],
            # As it was sent: percent-encoded, so that a path cannot forge a line of the log.
            path=scope["raw_path"].decode("ascii", "backslashreplace"),
            status=status,
            ms=round(seconds * 1000, 2),
            address=scope["client"][0] if scope["client"] else "",
        )


def _route(scope: Scope) -> str:
    """The path as the routes have it, so that there are only as many as there are routes."""
    if "route" in scope:
        return str(scope["route"].path)
    if "endpoint" in scope:
        # A plain route has no parameters; below a mounted application its root stands for all.
        return str(scope["root_path"] or scope["path"])
    return "none"
