"""Metrics of a guestbook's state, read when Prometheus asks so that keeping them costs nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterator

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
        yield from self._gauges()
        yield from self._counters()
        yield from self._counters_by_reason()
        replays = SummaryMetricFamily(
            "guestbook_replay_events",
            "Messages and deletions that streams were given belatedly, by where they came from",
            labels=("source",),
        )
        counts = self._guestbook.fanout.counts
        for source, number in counts.replays.items():
            replays.add_metric((source,), number, counts.replayed[source])
        yield replays

    def _gauges(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "guestbook_build_info", "The version that runs", labels=("version", "python")
        )
        info.add_metric((__version__, platform.python_version()), 1)
        yield info
        guestbook, presence = self._guestbook, self._guestbook.presence
        held, now_ms = presence.held, presence.now_ms
        oldest = (now_ms - held.oldest.ms) / 1000 if held.oldest and now_ms else 0.0
        for name, meaning, value in (
            ("held_messages", "Messages that wait for a moderator", held.waiting),
            ("held_oldest_seconds", "How long the oldest of them has waited", max(oldest, 0.0)),
            ("ready", "Whether the process is ready", not guestbook.readiness_problems()),
            ("streams", "Open event streams", len(guestbook.fanout)),
            (
                "entries_bytes",
                "Bytes of the entries in memory, as streams send them",
                guestbook.log.size,
            ),
            ("redis_up", "Whether the last heartbeat reached Redis", presence.error is None),
            (
                "redis_clock_ahead_seconds",
                "How far the newest id is ahead of Redis's clock",
                presence.clock_ahead,
            ),
        ):
            yield GaugeMetricFamily(f"guestbook_{name}", meaning, value=value)
        entries = GaugeMetricFamily("guestbook_entries", "Entries in memory", labels=("kind",))
        counts = guestbook.log.count()
        for kind in ("message", "edit", "deletion"):
            entries.add_metric((kind,), counts[kind])
        yield entries

    def _counters(self) -> Iterator[Metric]:
        guestbook, counts = self._guestbook, self._guestbook.fanout.counts
        replayed = "Posts answered with the message that their key had stored before"
        delivered = "Messages and deletions written, counted for each stream"
        reconnects = guestbook.presence.reconnects
        for name, meaning, value in (
            ("streams_opened", "Event streams opened", counts.opened),
            ("streams_reset", "Event streams told to load the list again", counts.resets),
            ("events_delivered", delivered, counts.delivered),
            ("messages_accepted", "Messages stored", guestbook.accepted),
            ("messages_replayed", replayed, guestbook.replayed),
            ("redis_reconnects", "How often Redis came back after it was away", reconnects),
        ):
            yield CounterMetricFamily(f"guestbook_{name}", meaning, value=value)

    def _counters_by_reason(self) -> Iterator[Metric]:
        counts = self._guestbook.fanout.counts
        for name, meaning, numbers in (
            ("streams_closed", "Event streams that ended, by reason", counts.closed),
            ("streams_refused", "Event streams refused, by reason", counts.refused),
        ):
            family = CounterMetricFamily(f"guestbook_{name}", meaning, labels=("reason",))
            for reason, number in numbers.items():
                family.add_metric((reason,), number)
            yield family
