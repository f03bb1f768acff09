"""The `pods` event: the live pods, how many streams each has, and which pod serves the client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NotRequired, TypedDict

from guestbook.core import sse

# A larger number of pods is not listed in full, because every stream gets the list.
LISTED_MAX = 100
# Placeholders for the numbers in an event that is encoded ahead: no real one is negative.
_OWN_COUNT, _TOTAL, _NOW = -1, -2, -3
_OWN_COUNT_JSON, _TOTAL_JSON = (b'"streams":%d' % count for count in (_OWN_COUNT, _TOTAL))
_NOW_JSON = b'"now":%d' % _NOW


class Record(TypedDict):
    """The announcement of a process."""

    name: str
    version: str
    started_at: str
    streams: int
    state: str
    lab: NotRequired[list[str]]
    """The faults that the lab has caused in it. Absent without a lab."""


class PodsEvent:
    """The event of one pod, encoded in advance except for the counts and the time.

    Thousands of streams may open at once, and each begins with it.
    """

    def __init__(self) -> None:
        self._event = b""
        self._peers: Mapping[str, Record] | None = None
        self._key: object = None

    def encode(
        self,
        own: Record,
        peers: Mapping[str, Record],
        *,
        is_away: bool,
        notices: Mapping[str, str],
        now_ms: int | None,
    ) -> bytes:
        """Encode the event of the pod with the record `own`; `peers` is not modified later.

        `is_away` is whether Redis is away, `now_ms` its time if it is known, `notices` are
        further members: that the guestbook is closed or moderated.
        """
        has_time = now_ms is not None
        listed: Record = {**own, "streams": _OWN_COUNT}
        key = (listed, is_away, notices, has_time)
        if self._peers is not peers or self._key != key:
            self._peers, self._key = peers, key
            pods = by_name([listed, *peers.values()])
            if len(pods) > LISTED_MAX:
                # This pod is always listed.
                pods = sorted(pods, key=lambda pod: pod["name"] != own["name"])[:LISTED_MAX]
            # The load balancer chose the pod; here the client learns which one.
            data = {"pods": pods, "streams": _TOTAL, "pod": own["name"], **notices}
            if has_time:
                # Visitors' clocks may be wrong, so pages compute ages from Redis's time.
                data["now"] = _NOW
            if is_away:
                data["redis"] = "away"
            json_data = json.dumps(data, separators=(",", ":"))
            self._event = sse.event(json_data.encode(), name="pods")
        total = own["streams"] + sum(pod["streams"] for pod in peers.values())
        event = self._event.replace(_OWN_COUNT_JSON, b'"streams":%d' % own["streams"])
        if now_ms is not None:
            event = event.replace(_NOW_JSON, b'"now":%d' % now_ms)
        return event.replace(_TOTAL_JSON, b'"streams":%d' % total)


def by_name(pods: Iterable[Record]) -> list[Record]:
    """Sort pods by name and start."""
    return sorted(pods, key=lambda pod: (pod["name"], pod["started_at"]))


def parse(record: Mapping[str, Any]) -> Record:
    """Parse the record of a process of any version."""
    streams = record.get("streams")
    lab = record.get("lab")
    parsed: Record = {
        "name": str(record.get("name", "")),
        "version": str(record.get("version", "")),
        "started_at": str(record.get("started_at", "")),
        "streams": streams if isinstance(streams, int) else 0,
        "state": str(record.get("state", "ready")),
    }
    if isinstance(lab, list):
        parsed["lab"] = [str(action) for action in lab]
    return parsed
