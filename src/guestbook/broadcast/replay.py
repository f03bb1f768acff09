"""What streams lack: taken from the log, or read from Redis, once for all who lack it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import accumulate

from guestbook.core import Entry, EntryId, EventLog, LogEntry

# What a client does not take stays in memory: no more is given at once than sockets mostly take.
_STRETCH_BYTES = 32 * 1024
_STRETCH_ENTRIES = (8, 256)
_KEPT = 32

Frame = Callable[[bytes], bytes]
ReadAfter = Callable[[EntryId, int], Awaitable[tuple[list[Entry], EntryId | None, EntryId]]]
"""`read_after(cursor, count)` reads the entries after a cursor, at most `count`.

Returns them, the id up to which they reach (None at the stream's end), and the id up to which the
stream has been trimmed. Raises ReplayUnavailableError.
"""


class ReplayUnavailableError(Exception):
    """Entries that are no longer in memory cannot be read at the moment."""


class Stretch:
    """Entries that follow each other, from after one id up to another, framed one by one."""

    def __init__(
        self, after: EntryId, reached: EntryId, records: list[LogEntry], frame: Frame
    ) -> None:
        # Nothing is left of the frame of a message that was deleted.
        frames = [frame(record.frame) if record.frame else b"" for record in records]
        self.after = after
        self.reached = reached
        self.frame = frame
        self._ids = [record.id for record in records]
        self._offsets = list(accumulate(map(len, frames), initial=0))
        self._data = memoryview(b"".join(frames))

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self._data)

    def beyond(self, cursor: EntryId) -> tuple[memoryview, int]:
        """What comes after a cursor, shared and not copied; how many entries that is."""
        index = bisect_right(self._ids, cursor)
        return self._data[self._offsets[index] :], len(self) - index


class Replay:
    """The stretches that were asked for last.

    Streams that were cut off together come back together, and go on side by side: after the first
    stretch, wherever each began, all of them are given the same ones.
    """

    def __init__(self, read_after: ReadAfter, log: EventLog) -> None:
        self._read_after = read_after
        self._log = log
        self._revision = log.revision
        self._kept: deque[Stretch] = deque(maxlen=_KEPT)
        self._reading: dict[tuple[EntryId, Frame, int], asyncio.Task[Stretch | None]] = {}
        self._count = _STRETCH_ENTRIES[0]

    async def after(self, cursor: EntryId, frame: Frame) -> Stretch | None:
        """What comes after a cursor, about one write of it; None if that is no longer kept.

        Raises ReplayUnavailableError.
        """
        if self._revision != self._log.revision:
            self.forget()
        for stretch in reversed(self._kept):
            if stretch.after <= cursor < stretch.reached and stretch.frame is frame:
                return stretch
        if cursor >= self._log.low_watermark:
            records = self._log.some(self._log.position_after(cursor), _STRETCH_BYTES)
            reached = records[-1].id if records else cursor
            self._kept.append(Stretch(cursor, reached, records, frame))
            return self._kept[-1]
        # Who asks after a deletion is not given what was read before: it may tell what was deleted.
        key = cursor, frame, self._log.revision
        if key not in self._reading:
            self._reading[key] = asyncio.create_task(self._read(cursor, frame))
            self._reading[key].add_done_callback(lambda _: self._reading.pop(key))
        # It goes on when the stream that has asked first is gone: others wait for it too.
        return await asyncio.shield(self._reading[key])

    async def _read(self, cursor: EntryId, frame: Frame) -> Stretch | None:
        revision = self._log.revision
        entries, reached, trimmed = await self._read_after(cursor, self._count)
        if cursor < trimmed:
            return None
        records = [LogEntry.of(entry) for entry in entries]
        stretch = Stretch(cursor, reached or self._log.low_watermark, records, frame)
        fewest, most = _STRETCH_ENTRIES
        count = self._count * _STRETCH_BYTES // (stretch.size or 1)
        self._count = max(fewest, min(count, most))
        if self._log.revision == revision:
            self._kept.append(stretch)
        return stretch

    def forget(self) -> None:
        """Lets go of what was read."""
        self._kept.clear()
        self._revision = self._log.revision
