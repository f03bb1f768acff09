"""What has happened to streams since the process began, for metrics."""

from __future__ import annotations

from collections import Counter

_END_REASONS = ("client gone", "slow", "stalled", "drain", "redis away", "error")
_REFUSAL_REASONS = ("drain", "limit", "address limit")
_SOURCES = ("memory", "redis")


class Counts:
    """Plain numbers that only grow. Every label that can occur is there from the start."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = Counter(dict.fromkeys(_END_REASONS, 0))
        """Streams that ended, by reason."""
        self.refused = Counter(dict.fromkeys(_REFUSAL_REASONS, 0))
        """Streams that were not opened, by reason."""
        self.resets = 0
        """`reset` events written."""
        self.delivered = 0
        """Entries written, counted once for each stream."""
        self.replays = Counter(dict.fromkeys(_SOURCES, 0))
        """Streams that had missed something, by where it was read."""
        self.replayed = Counter(dict.fromkeys(_SOURCES, 0))
        """Entries that were not written live, counted once for each stream, by source."""
