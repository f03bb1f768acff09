"""Groups of streams that are at the same position, and the loop that writes to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from guestbook.broadcast.stream import WRITE_BYTES, Counts, Position, Stream
from guestbook.core import EventLog, sse

_GROUP_SIZE = 128
_CACHED = 16
# How long the fan-out may hold the event loop before others get a turn.
_SLICE_SECONDS = 0.0015


class Group:
    """Streams of one class at one position, by their channels.

    So the loop that sends does not access the streams, which are rarely in the CPU's cache.
    """

    __slots__ = ("kind", "position", "streams")

    def __init__(self, kind: type[Stream], position: Position) -> None:
        self.kind = kind
        self.position = position
        self.streams: dict[Any, Stream] = {}

    def has_room_for(self, stream: Stream) -> bool:
        """Return whether a stream is at this group's position, and the group is not full."""
        return (
            self.position == stream.position
            and self.kind is type(stream)
            and len(self.streams) < _GROUP_SIZE
        )


class Groups:
    """All groups. `abort` is called with streams that have fallen out of the log."""

    def __init__(self, log: EventLog, counts: Counts, abort: Callable[[Stream, str], None]) -> None:
        self._log = log
        self._counts = counts
        self._abort = abort
        # The first one has waited longest: no other is further back.
        self._groups: deque[Group] = deque()
        self._last_joined: Group | None = None
        self._pods_event = b""
        self._cache: dict[tuple[type[Stream], Position], tuple[bytes, Position]] = {}
        self.newest = Position(log.end, 0, 0)
        """The position of a stream that lacks nothing, as of the last `update`."""

    @property
    def min_position(self) -> int | None:
        """The position in the log that all groups have reached; None if there are no groups."""
        return self._groups[0].position.entries if self._groups else None

    def set_pods(self, event: bytes) -> None:
        """Set the `pods` event to write next."""
        self._pods_event = event
        self.update(pods=1)

    def update(self, *, pods: int = 0, pings: int = 0) -> None:
        """Bring `newest` up to date: with the log, and with further `pods` events and pings."""
        before = self.newest
        newest = Position(self._log.end, before.pods + pods, before.pings + pings)
        if newest != before:
            self.newest = newest
            self._cache.clear()

    def join(self, stream: Stream) -> None:
        """Put a stream into a group at its position."""
        # Many streams open one after the other: the group of the last one mostly has room.
        group = self._last_joined
        if group is None or not group.has_room_for(stream):
            group = next((group for group in self._groups if group.has_room_for(stream)), None)
        if group is None:
            group = Group(type(stream), stream.position)
            self._groups.append(group)
        self._last_joined = stream.group = group
        group.streams[stream.channel] = stream

    def leave(self, stream: Stream) -> None:
        """Take a stream out of its group, if it is in one; it keeps the group's position."""
        if stream.group is not None:
            stream.position = stream.group.position
            del stream.group.streams[stream.channel]
            stream.group = None

    def skip_to_newest(self) -> list[Stream]:
        """Move all groups to `newest` without writing what lies between; return their streams."""
        skipped: list[Stream] = []
        for group in self._groups:
            for stream in group.streams.values():
                stream.live_from += self.newest.entries - group.position.entries
            group.position = self.newest
            skipped += group.streams.values()
        return skipped

    def flush(self) -> bool:
        """Write to the groups that are behind, for a short time; return whether all are done."""
        self.update()
        deadline = time.monotonic() + _SLICE_SECONDS
        for _ in range(len(self._groups)):
            group = self._groups[0]
            self._groups.rotate(-1)
            if group.position != self.newest:
                self._push(group)
                if group.position != self.newest or time.monotonic() > deadline:
                    return False
        return True

    def _push(self, group: Group) -> None:
        if not group.streams:
            self._groups.remove(group)
            if self._last_joined is group:
                self._last_joined = None
            return
        if group.position.entries < self._log.start:
            for stream in tuple(group.streams.values()):
                self._abort(stream, "slow")
            return
        # The group moves first: a stream that pauses below has been given all of this.
        before = group.position.entries
        framed, group.position = self.after(group.kind, group.position)
        self._counts.delivered += (group.position.entries - before) * len(group.streams)
        if not framed:
            return
        # A stream that cannot take all of it leaves the group.
        short: list[tuple[Stream, int]] = []
        send, size = group.kind.send, len(framed)
        for channel in group.streams:
            try:
                sent = send(channel, framed)
            except OSError:
                sent = 0
            if sent != size:
                short.append((group.streams[channel], sent))
        for stream, sent in short:
            stream.write(memoryview(framed)[sent:])

    def after(self, kind: type[Stream], position: Position) -> tuple[bytes, Position]:
        """Return what follows a position, framed once for all streams there, and where it ends."""
        known = self._cache.get((kind, position))
        if known is None:
            data, end = self._log.frames(position.entries, WRITE_BYTES)
            if position.pods != self.newest.pods:
                data += self._pods_event
            if position.pings != self.newest.pings:
                data += sse.PING
            framed = kind.frame(data) if data else b""
            known = framed, self.newest._replace(entries=end)
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[kind, position] = known
        return known
