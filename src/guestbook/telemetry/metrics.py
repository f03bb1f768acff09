"""Metrics for Prometheus: requests, durations, and whatever else is registered."""

from __future__ import annotations

import functools

from prometheus_client import (
    CONTENT_TYPE_PLAIN_1_0_0,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# From a local Redis to the longest that visitors wait.
_REDIS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# The requests that post a message, and the meaning of a status that refuses it.
_POSTS = frozenset({("POST", "/messages"), ("GET", "/rpush/{key}/{value:text}")})
_REFUSALS: dict[int | str, str] = {
    400: "incomplete",
    403: "cross site",
    413: "too large",
    415: "media type",
    422: "invalid",
    429: "rate",
    500: "bug",
    503: "redis away",
    # Codes of problems say more than their status.
    "banned": "banned",
    "closed": "closed",
    "queue_full": "queue full",
    "refused": "moderator",
    "withdrawn": "withdrawn",
}


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        # A time of creation for each counter would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "guestbook_http_requests",
            "HTTP requests answered; a stream is counted when it opens",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "guestbook_http_request_seconds",
            "Duration of requests, without streams",
            ("method", "route"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "guestbook_messages_refused",
            "Posts refused, by reason",
            ("reason",),
            registry=self.registry,
        )
        self.evictions = Counter(
            "guestbook_connections_evicted",
            "Idle connections closed to make room for others",
            registry=self.registry,
        )
        self.lag = Histogram(
            "guestbook_delivery_lag_seconds",
            "Time from storing an entry in Redis until it was written to the streams",
            buckets=_REDIS_SECONDS,
            registry=self.registry,
        )
        self._command_seconds = Histogram(
            "guestbook_redis_command_seconds",
            "How long Redis took to answer, by command",
            ("command",),
            buckets=_REDIS_SECONDS,
            registry=self.registry,
        )
        # labels() takes a lock and copies the labels each time.
        self._requests_by = functools.cache(self._requests.labels)
        self._request_seconds_by = functools.cache(self._request_seconds.labels)
        self._command_seconds_by = functools.cache(self._command_seconds.labels)
        # These are exported from the start.
        for reason in _REFUSALS.values():
            self._refused.labels(reason)
        for command in ("heartbeat", "post"):
            self._command_seconds_by(command)
        ProcessCollector(registry=self.registry)

    def count_request(
        self, method: str, route: str, status: int, seconds: float | None, *, code: str = ""
    ) -> None:
        """Count an answer; `seconds` is None for a stream, `code` that of a problem."""
        if method not in _METHODS:
            method = "other"
        self._requests_by(method, route, status).inc()
        if seconds is not None:
            self._request_seconds_by(method, route).observe(seconds)
        if status >= 400 and (method, route) in _POSTS:
            self._refused.labels(_REFUSALS.get(code) or _REFUSALS.get(status, "other")).inc()

    def observe_command(self, command: str, seconds: float) -> None:
        """Record how long Redis took to answer a command."""
        self._command_seconds_by(command).observe(seconds)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)
