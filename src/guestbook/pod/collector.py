"""Metrics that are read from a guestbook's state when Prometheus scrapes them."""

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
    """The metrics of one guestbook: its streams, its messages, and its Redis."""

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook

    def collect(self) -> Iterator[Metric]:
        guestbook, presence = self._guestbook, self._guestbook.presence
        held, now_ms, counts = presence.held, presence.now_ms, guestbook.fanout.counts
        oldest = (now_ms - held.oldest.ms) / 1000 if held.oldest and now_ms else 0.0
        info = GaugeMetricFamily(
            "guestbook_build_info", "The running version", labels=("version", "python")
        )
        info.add_metric((__version__, platform.python_version()), 1)
        yield info
        frames = "Bytes of the entries in memory, as streams send them"
        ahead = "How far the newest id is ahead of Redis's clock"
        for name, meaning, value in (
            ("held_messages", "Messages that wait for a moderator", held.waiting),
            ("held_oldest_seconds", "How long the oldest of them has waited", max(oldest, 0.0)),
            ("ready", "Whether the process is ready", not guestbook.readiness_problems()),
            ("streams", "Open event streams", len(guestbook.fanout)),
            ("entries_bytes", frames, guestbook.log.size),
            ("redis_up", "Whether the last heartbeat reached Redis", presence.error is None),
            ("redis_clock_ahead_seconds", ahead, presence.clock_ahead),
        ):
            yield GaugeMetricFamily(f"guestbook_{name}", meaning, value=value)
        entries = guestbook.log.count_by_kind()
        kinds = {kind: entries[kind] for kind in ("message", "edit", "deletion")}
        yield _by_label(GaugeMetricFamily, "entries", "Entries in memory", "kind", kinds)

        replayed = "Posts answered with the message that their key had stored before"
        delivered = "Entries written to streams, counted for each stream"
        reconnects = "How often Redis came back after it was away"
        for name, meaning, value in (
            ("streams_opened", "Event streams opened", counts.opened),
            ("streams_reset", "Event streams that received `reset`", counts.resets),
            ("events_delivered", delivered, counts.delivered),
            ("messages_accepted", "Messages stored", guestbook.accepted),
            ("messages_replayed", replayed, guestbook.replayed),
            ("redis_reconnects", reconnects, presence.reconnects),
        ):
            yield CounterMetricFamily(f"guestbook_{name}", meaning, value=value)
        closed, refused = "Event streams that ended, by reason", "Event streams refused, by reason"
        yield _by_label(CounterMetricFamily, "streams_closed", closed, "reason", counts.closed)
        yield _by_label(CounterMetricFamily, "streams_refused", refused, "reason", counts.refused)

        replays = SummaryMetricFamily(
            "guestbook_replay_events",
            "Entries that streams received while catching up, by source",
            labels=("source",),
        )
        for source, number in counts.replays.items():
            replays.add_metric((source,), number, counts.replayed[source])
        yield replays


def _by_label(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    meaning: str,
    label: str,
    numbers: Mapping[str, int],
) -> Metric:
    metric = family(f"guestbook_{name}", meaning, labels=(label,))
    for value, number in numbers.items():
        metric.add_metric((value,), number)
    return metric
