"""Metrics of a guestbook's state, read when Prometheus asks so that keeping them costs nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from guestbook import __version__
from guestbook.pod.guestbook import Guestbook


class GuestbookCollector(Collector):
    """Reads one guestbook: its streams, its messages, and its Redis."""

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook

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
        counts = fanout.counts
        yield GaugeMetricFamily("guestbook_streams", "Open event streams", value=len(fanout))
        yield CounterMetricFamily(
            "guestbook_streams_opened", "Event streams opened", value=counts.opened
        )
        yield _by_reason("guestbook_streams_closed", "Event streams that ended", counts.closed)
        yield _by_reason("guestbook_streams_refused", "Event streams refused", counts.refused)
        yield CounterMetricFamily(
            "guestbook_streams_reset",
            "Event streams told to load the list again",
            value=counts.resets,
        )
        yield CounterMetricFamily(
            "guestbook_events_delivered",
            "Messages and deletions written, counted for each stream",
            value=counts.delivered,
        )
        replays = SummaryMetricFamily(
            "guestbook_replay_events",
            "Messages and deletions that streams were given belatedly, by where they came from",
            labels=("source",),
        )
        for source, number in counts.replays.items():
            replays.add_metric((source,), number, counts.replayed[source])
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

    def _redis(self) -> Iterator[Metric]:
        presence = self._guestbook.presence
        yield GaugeMetricFamily(
            "guestbook_redis_up",
            "Whether the last heartbeat reached Redis",
            value=presence.error is None,
        )
        yield GaugeMetricFamily(
            "guestbook_redis_clock_ahead_seconds",
            "How far the newest id is ahead of Redis's clock",
            value=presence.clock_ahead,
        )
        yield CounterMetricFamily(
            "guestbook_redis_reconnects",
            "How often Redis came back after it was away",
            value=presence.reconnects,
        )


def _by_reason(name: str, meaning: str, numbers: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, f"{meaning}, by reason", labels=("reason",))
    for reason, number in numbers.items():
        family.add_metric((reason,), number)
    return family
