"""What Prometheus may know. Nothing here costs anything while events are fanned out."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from prometheus_client import (
    CONTENT_TYPE_PLAIN_1_0_0,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from guestbook import __version__
from guestbook.guestbook import Guestbook

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0


class Metrics:
    """The metrics of one application."""

    def __init__(self, guestbook: Guestbook) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_State(guestbook))
        self.requests = Counter(
            "guestbook_http_requests",
            "HTTP requests answered; a stream counts when it opens",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "guestbook_http_request_seconds",
            "How long requests took; of a stream, until it was open",
            ("route",),
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """Reads the state when it is asked for, so that keeping it costs nothing."""

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook

    def collect(self) -> Iterator[Metric]:
        guestbook = self._guestbook
        fanout = guestbook.fanout
        info = GaugeMetricFamily(
            "guestbook_build_info", "The version that runs", labels=("version", "python")
        )
        info.add_metric((__version__, platform.python_version()), 1)
        yield info
        yield GaugeMetricFamily(
            "guestbook_ready", "Whether the process is ready", value=not guestbook.obstacles()
        )
        yield GaugeMetricFamily(
            "guestbook_redis_up",
            "Whether the last heartbeat reached Redis",
            value=guestbook.pods.error is None,
        )
        yield GaugeMetricFamily("guestbook_streams", "Open event streams", value=len(fanout))
        yield CounterMetricFamily(
            "guestbook_streams_opened", "Event streams opened", value=fanout.opened
        )
        closed = CounterMetricFamily(
            "guestbook_streams_closed", "Event streams that ended, by reason", labels=("reason",)
        )
        for reason, number in fanout.closed.items():
            closed.add_metric((reason,), number)
        yield closed
