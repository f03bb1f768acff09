"""The stream's newest entries, held in memory and encoded for the wire once."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from guestbook.core import sse
from guestbook.core.messages import ORIGIN, Deletion, Entry, EntryId

_by_id = attrgetter("id")


@dataclass(slots=True)
class LogEntry:
    """An entry as it goes over the wire. `deletes` is set where it is a deletion."""

    id: EntryId
    frame: bytes
    deletes: EntryId | None
    trace: str = ""

    @classmethod
    def of(cls, entry: Entry) -> LogEntry:
        """Encodes an entry, the one time that this process does so."""
        if isinstance(entry, Deletion):
            frame = sse.event(entry.json(), id=str(entry.id), name="deleted")
            return cls(entry.id, frame, entry.target, entry.trace)
        return cls(entry.id, sse.event(entry.json(), id=str(entry.id)), None, entry.trace)

    @property
    def is_message(self) -> bool:
        """Whether this is a message that has not been deleted."""
        return self.deletes is None and bool(self.frame)

    @property
    def json(self) -> bytes:
        """The event's data, which is one line (of a message: what the API gives)."""
        return self.frame[self.frame.index(b"data: ") + 6 : -2]

    def tombstone(self) -> None:
        """Takes a message's words away; its place in the order stays."""
        self.frame = b""


class EventLog:
    """What every stream is served from and every page is made of.

    A position counts records since the process began: it stays true when old records are
    dropped. Bounded by the number of records that have a frame, and by their bytes.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._records: list[LogEntry] = []
        self._live = 0
        self._bytes = 0
        self._waiters: list[tuple[EntryId, asyncio.Future[None]]] = []
        self.start = 0
        """The position of the oldest record in memory."""
        self.low_watermark = ORIGIN
        """Entries with this id or a smaller one may be missing from memory."""
        self.last = ORIGIN
        """The id up to which the stream has been read."""
        self.is_complete = False
        """Whether Redis keeps nothing that is not in memory too."""
        self.is_loaded = False
        """Whether the log has been filled from Redis since the process began."""
        self.revision = 0
        """Goes up with whatever makes wrong what was read of the stream: deletions, a reload."""

    @property
    def end(self) -> int:
        """The position after the newest record."""
        return self.start + len(self._records)

    def load(
        self, records: list[LogEntry], *, low_watermark: EntryId, last: EntryId, is_complete: bool
    ) -> None:
        """Replaces everything: `records` are all that the stream has after `low_watermark`."""
        # One further, so that whoever stood at the old end does not stand at the new beginning.
        self.start = self.end + 1 if self.is_loaded else self.end
        self._records = []
        self._live = self._bytes = 0
        self.low_watermark = low_watermark
        self.is_complete = is_complete
        self.revision += 1
        self._extend(records)
        self.last = last
        self.is_loaded = True
        self._tell_waiters()

    def append(self, records: Iterable[LogEntry], last: EntryId) -> None:
        """Adds what the stream got since; `last` is the id up to which it has been read."""
        self._extend(records)
        self.last = last
        self._tell_waiters()

    def _extend(self, records: Iterable[LogEntry]) -> None:
        for record in records:
            self._records.append(record)
            self._live += 1
            self._bytes += len(record.frame)
            if record.deletes is not None:
                self.revision += 1
                self._remove(record.deletes)
        self._trim()

    def _remove(self, target: EntryId) -> None:
        record = self._find(target)
        if record is not None and record.is_message:
            self._bytes -= len(record.frame)
            self._live -= 1
            record.tombstone()

    def _trim(self) -> None:
        dropped = 0
        while self._live > self.max_records or self._bytes > self.max_bytes:
            record = self._records[dropped]
            # Redis drops old messages by their number too, but knows no limit of bytes.
            self.is_complete = self.is_complete and self._live > self.max_records
            dropped += 1
            self._live -= bool(record.frame)
            self._bytes -= len(record.frame)
        if dropped:
            self.low_watermark = self._records[dropped - 1].id
            self.start += dropped
            del self._records[:dropped]

    def trim_to(self, trimmed: EntryId) -> None:
        """Drops what Redis has trimmed: everything up to this id."""
        if trimmed <= self.low_watermark:
            return
        count = bisect_right(self._records, trimmed, key=_by_id)
        for record in self._records[:count]:
            self._live -= bool(record.frame)
            self._bytes -= len(record.frame)
        del self._records[:count]
        self.start += count
        self.low_watermark = trimmed
        # What Redis still has is newer than this, and so than all that was not in memory.
        self.is_complete = True

    def position_after(self, cursor: EntryId) -> int:
        """Where a stream goes on that has seen everything up to `cursor` (>= `low_watermark`)."""
        return self.start + bisect_right(self._records, cursor, key=_by_id)

    def id_before(self, position: int) -> EntryId:
        """The cursor of a stream that stands at a position that is in memory."""
        return (
            self._records[position - self.start - 1].id
            if position > self.start
            else self.low_watermark
        )

    def frames(self, position: int, max_bytes: int) -> tuple[bytes, int]:
        """What comes from `position` on, up to about `max_bytes`, and the position after it."""
        records = self.some(position, max_bytes)
        return b"".join([record.frame for record in records]), position + len(records)

    def some(self, position: int, max_bytes: int) -> list[LogEntry]:
        """The records from `position` on whose frames are about `max_bytes`, or all there are."""
        size = 0
        begin = position - self.start
        for index in range(begin, len(self._records)):
            size += len(self._records[index].frame)
            if size >= max_bytes:
                return self._records[begin : index + 1]
        return self._records[begin:]

    def between(self, position: int, end: int) -> list[LogEntry]:
        """The records from `position` on and before `end` that are still in memory."""
        return self._records[max(position - self.start, 0) : max(end - self.start, 0)]

    def get(self, entry_id: EntryId) -> LogEntry | None:
        """The message with this id, if it is in memory and has not been deleted."""
        record = self._find(entry_id)
        return record if record is not None and record.is_message else None

    def _find(self, entry_id: EntryId) -> LogEntry | None:
        index = bisect_left(self._records, entry_id, key=_by_id)
        if index < len(self._records) and self._records[index].id == entry_id:
            return self._records[index]
        return None

    def newest(self, before: EntryId | None = None) -> Iterator[LogEntry]:
        """The messages in memory, newest first, older than `before`."""
        stop = len(self._records)
        if before is not None:
            stop = bisect_left(self._records, before, key=_by_id)
        return (self._records[i] for i in range(stop - 1, -1, -1) if self._records[i].is_message)

    def oldest(self, after: EntryId) -> Iterator[LogEntry]:
        """The messages in memory, oldest first, newer than `after`."""
        begin = bisect_right(self._records, after, key=_by_id)
        records = self._records
        return (records[i] for i in range(begin, len(records)) if records[i].is_message)

    async def reached(self, entry_id: EntryId) -> None:
        """Waits until the stream has been read up to `entry_id`."""
        if self.last >= entry_id:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((entry_id, waiter))
        await waiter

    def _tell_waiters(self) -> None:
        if not self._waiters:
            return
        waiting = []
        for entry_id, waiter in self._waiters:
            if waiter.done():
                continue
            if entry_id <= self.last:
                waiter.set_result(None)
            else:
                waiting.append((entry_id, waiter))
        self._waiters = waiting
