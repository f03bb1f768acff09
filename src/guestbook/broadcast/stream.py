"""One open stream: its state, its first and last bytes, how it is written to, and counts."""

from __future__ import annotations

import enum
import random
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from guestbook.core import EntryId, sse

if TYPE_CHECKING:
    from guestbook.broadcast.fanout import Fanout
    from guestbook.broadcast.groups import Group

WRITE_BYTES = 64 * 1024
"""About how much is written to a stream at once."""

# How long a client waits before it reconnects: at random, so that they do not all come at once.
_RETRY_MS = (500, 3000)
_COMMENT = sse.comment("guestbook")
_END_REASONS = ("client gone", "slow", "stalled", "drain", "redis away", "error", "cut")
_REFUSAL_REASONS = ("drain", "limit", "address limit")
_SOURCES = ("memory", "redis")


class State(enum.Enum):
    """The state of a stream. One function of `Fanout` changes it.

    A stream can be paused in every state (`paused_at`), because its socket is full, and continues
    in the same state.
    """

    WAITING = enum.auto()
    """It waits for the log, which is not loaded or not read up to the stream's cursor yet."""
    CATCHING_UP = enum.auto()
    """It is far behind, and a task of its own writes the missing entries."""
    LIVE = enum.auto()
    """It has a position in the log, and belongs to a group unless it is paused."""
    CLOSED = enum.auto()
    """It gets no more events; earlier ones may still be in its buffer."""


class Position(NamedTuple):
    """How many log entries, `pods` events and pings a stream has been sent."""

    entries: int
    pods: int
    pings: int


class Stream(ABC):
    """One open stream.

    An implementation calls the fan-out when its buffer is not empty (`pause`), when it is empty
    again (`resume`), and when its connection is gone (`connection_lost`).
    """

    __slots__ = (
        "_fanout",
        "address",
        "channel",
        "cursor",
        "cursor_at",
        "end_reason",
        "entries",
        "group",
        "live_from",
        "opened_at",
        "paused_at",
        "position",
        "request_id",
        "state",
    )

    position: Position
    """While it is in a group, the group's position counts, not this one."""
    channel: Any
    """The hashable object to which `send` sends."""

    def __init__(
        self, fanout: Fanout, address: str, cursor: EntryId | None, request_id: str = ""
    ) -> None:
        self._fanout = fanout
        # Behind a load balancer all streams may have the same address.
        self.address = sys.intern(address)
        self.cursor = cursor
        self.request_id = request_id
        self.state = State.WAITING
        self.end_reason = ""
        self.entries = 0
        """How many entries it was sent, without those since it went live."""
        self.live_from = 0
        """From which entry of the log on it is live."""
        self.group: Group | None = None
        self.opened_at = self.cursor_at = time.monotonic()
        """When it was opened, and when it got its present cursor."""
        self.paused_at: float | None = None
        """Since when its socket has been full; None: it has room."""

    @staticmethod
    @abstractmethod
    def frame(data: bytes) -> bytes:
        """Return events in the form in which `write` takes them."""

    @staticmethod
    @abstractmethod
    def send(channel: Any, framed: bytes | memoryview, /) -> int:
        """Send as much as the channel takes without blocking; return how many bytes.

        Raises OSError if it takes nothing.
        """

    @abstractmethod
    def write(self, framed: bytes | memoryview) -> None:
        """Send framed events, or keep what cannot be sent yet."""

    @abstractmethod
    def finish(self) -> None:
        """End the response properly, after everything that has been written."""

    @abstractmethod
    def abort(self) -> None:
        """Cut the connection, even if data is still to be sent."""


def _retry() -> bytes:
    return sse.retry(int(random.uniform(*_RETRY_MS)))  # noqa: S311  # jitter


def first_event(greeting: bytes, cursor: EntryId | None) -> bytes:
    """Return the event with which a stream begins: `greeting`, with `retry:` and the cursor.

    With the cursor as its `id:`, a client that is cut off before its first message misses nothing.
    """
    first = b"" if cursor is None else sse.last_id(str(cursor))
    return _COMMENT + _retry() + first + greeting


def bye() -> bytes:
    """Return the `bye` event with `retry:`, which ends a stream that the server closes."""
    return _retry() + sse.event(b"{}", name="bye")


class Counts:
    """Counts of streams since the process started, for metrics.

    Every label exists from the start.
    """

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
