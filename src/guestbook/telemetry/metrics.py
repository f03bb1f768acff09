"""What Prometheus may know. Nothing here costs anything while events are fanned out."""

from __future__ import annotations

import platform
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_PLAIN_1_0_0,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from guestbook import __version__
from guestbook.pod import Guestbook

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_STREAM = ("GET", "/events", 200)
# The requests that post, and what the status of their answer says.
_POSTS = (("POST", "/messages"), ("GET", "/rpush/{key}/{value:text}"))
_REFUSALS = {
    "400": "incomplete",
    "403": "cross site",
    "413": "too large",
    "415": "media type",
    "422": "invalid",
    "429": "rate",
    "500": "bug",
    "503": "redis away",
}


class Metrics:
    """The metrics of one application."""

    def __init__(self, guestbook: Guestbook) -> None:
        # Each counter's time of birth would be one more series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there
        self._fanout = guestbook.fanout
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "guestbook_http_requests",
            "HTTP requests answered; a stream counts when it opens",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "guestbook_http_request_seconds",
            "How long requests took, streams aside",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._streams_counted = 0
        self._registry.register(_State(guestbook, self._requests))
        self._registry.register(guestbook.delivery_lag)
        self._registry.register(guestbook.redis_seconds)
        ProcessCollector(registry=self._registry)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        counter, histogram = self._children_of(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def _children_of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        key = (method if method in _METHODS else "other", route, status)
        if key not in self._children:
            self._children[key] = self._requests.labels(*key), self._seconds.labels(*key[:2])
        return self._children[key]

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        # Of a stream that opens, the fan-out counts all that there is to count.
        self._requests.labels(*_STREAM).inc(self._fanout.opened - self._streams_counted)
        self._streams_counted = self._fanout.opened
        return generate_latest(self._registry)


class _State(Collector):
    """Reads the state when it is asked for, so that keeping it costs nothing."""

    def __init__(self, guestbook: Guestbook, requests: Counter) -> None:
        self._guestbook = guestbook
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "guestbook_build_info", "The version that runs", labels=("version", "python")
        )
        info.add_metric((__version__, platform.python_version()), 1)
        yield info
        yield GaugeMetricFamily(
            "guestbook_ready",
            "Whether the process is ready",
            value=not self._guestbook.readiness_problems(),
        )
        yield from self._streams()
        yield from self._messages()
        yield from self._redis()

    def _streams(self) -> Iterator[Metric]:
        fanout = self._guestbook.fanout
        yield GaugeMetricFamily("guestbook_streams", "Open event streams", value=len(fanout))
        yield CounterMetricFamily(
            "guestbook_streams_opened", "Event streams opened", value=fanout.opened
        )
        yield _by_reason("guestbook_streams_closed", "Event streams that ended", fanout.closed)
        yield _by_reason("guestbook_streams_refused", "Event streams refused", fanout.refused)
        yield CounterMetricFamily(
            "guestbook_streams_reset",
            "Event streams told to load the list again",
            value=fanout.resets,
        )
        yield CounterMetricFamily(
            "guestbook_events_delivered",
            "Messages and deletions written, counted for each stream",
            value=fanout.delivered,
        )
        replays = SummaryMetricFamily(
            "guestbook_replay_events",
            "Messages and deletions that streams were given belatedly, by where they came from",
            labels=("source",),
        )
        for source, number in fanout.replays.items():
            replays.add_metric((source,), number, fanout.replayed[source])
        yield replays

    def _messages(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "guestbook_messages_accepted", "Messages stored", value=self._guestbook.accepted
        )
        yield CounterMetricFamily(
            "guestbook_messages_replayed",
            "Posts answered with the message that their key had stored before",
            value=self._guestbook.replayed,
        )
        yield _by_reason(
            "guestbook_messages_refused", "Posts refused", _refusals(self._requests.collect())
        )

    def _redis(self) -> Iterator[Metric]:
        pods = self._guestbook.pods
        yield GaugeMetricFamily(
            "guestbook_redis_up",
            "Whether the last heartbeat reached Redis",
            value=pods.error is None,
        )
        yield CounterMetricFamily(
            "guestbook_redis_reconnects",
            "How often Redis came back after it was away",
            value=pods.returns,
        )


def _by_reason(name: str, meaning: str, numbers: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, f"{meaning}, by reason", labels=("reason",))
    for reason, number in numbers.items():
        family.add_metric((reason,), number)
    return family


def _refusals(requests: Iterable[Metric]) -> Mapping[str, float]:
    """The posts that were not taken, told by the status of their answers."""
    refused: Counts[str] = Counts(dict.fromkeys(_REFUSALS.values(), 0))
    for sample in (sample for family in requests for sample in family.samples):
        labels = sample.labels
        is_post = sample.name.endswith("_total") and (labels["method"], labels["route"]) in _POSTS
        if is_post and labels["status"] >= "400":
            refused[_REFUSALS.get(labels["status"], "other")] += int(sample.value)
    return refused
