"""One request as its operator sees it: an id, a line of the log, a number among the metrics."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog
from starlette.types import Scope

from guestbook.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from guestbook.telemetry.tracing import Tracing

HEADER = b"x-request-id"

current_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered: it stands on every line logged meanwhile."""

_PROBES = frozenset({"/healthz", "/ready", "/metrics"})
# What is taken over stands in logs and goes back to the client.
_ID = re.compile(rb"[A-Za-z0-9._:/+=@~-]{1,64}")
# W3C Trace Context: version, trace id, parent id, flags.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

logger = structlog.get_logger(__name__)


class AccessLog:
    """Observes the requests of one application."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics = metrics
        self.tracing = tracing
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def begin(self, scope: Scope) -> RequestLog:
        """A request has come: from now on its id is the current one."""
        if self.tracing is None or scope["path"] in _PROBES:
            return RequestLog(self, scope, _sent_id(scope) or self._new_id())
        span = self.tracing.begin(scope)
        request_id = _sent_id(scope) or self.tracing.trace_id(span)
        span.set_attribute("guestbook.request_id", request_id)
        return RequestLog(self, scope, request_id, span)

    def _new_id(self) -> str:
        return f"{self._process}-{next(self._numbers)}"

    def note(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        """Counts and logs an answer."""
        self._metrics.count_request(scope["method"], route, status, seconds)
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


class RequestLog:
    """One request, from its head on. Whoever answers it calls `done`, once.

    A stream that was opened is observed where streams are: counted among them, and logged when it
    ends. So it gets no more than its id here, and its span where there are spans.
    """

    __slots__ = ("_observer", "_scope", "_span", "_started", "id")

    def __init__(
        self, observer: AccessLog, scope: Scope, request_id: str, span: Span | None = None
    ) -> None:
        self._span = span
        self._observer = observer
        self._scope = scope
        self._started = time.perf_counter()
        self.id = request_id
        current_id.set(request_id)

    @property
    def header(self) -> tuple[bytes, bytes]:
        """What every answer carries, so that its reader can name it."""
        return HEADER, self.id.encode()

    def done(self, status: int) -> None:
        """The answer is out."""
        scope = self._scope
        route = _route(scope)
        if route != "/events" or status != 200:
            self._observer.note(scope, route, status, time.perf_counter() - self._started)
        if self._span is not None and self._observer.tracing is not None:
            self._observer.tracing.end(self._span, scope, route, status)


def _sent_id(scope: Scope) -> str:
    """The id that a client or a proxy in front has given the request, if it is usable."""
    trace = b""
    for name, value in scope["headers"]:
        if name == HEADER:
            if _ID.fullmatch(value):
                return str(value, "ascii")
        elif name == b"traceparent":
            trace = value
    match = _TRACEPARENT.fullmatch(trace) if trace else None
    return match[1].decode() if match else ""


def _route(scope: Scope) -> str:
    """The path as the routes have it, so that there are only as many as there are routes."""
    if "route" in scope:
        return str(scope["route"].path)
    if "endpoint" in scope:
        # A plain route has no parameters; below a mounted application its root stands for all.
        return str(scope["root_path"] or scope["path"])
    return "none"
