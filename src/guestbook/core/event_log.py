"""The newest entries of the stream, kept in memory and encoded for the wire once."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from guestbook.core import sse
from guestbook.core.messages import ORIGIN, Change, Edit, Entry, EntryId, Message

_by_id = attrgetter("id")


@dataclass(slots=True)
class LogEntry:
    """An entry and its SSE frame."""

    id: EntryId
    frame: bytes
    """Empty once the message is deleted, or the edit is replaced."""
    message: Message | None
    """None for an edit or a deletion, and for a message that has been deleted."""
    change: Change | None
    """None for a message."""
    trace: str = ""

    @property
    def kind(self) -> str:
        """The type of an entry with a frame: message, edit or deletion."""
        if self.change is None:
            return "message"
        return "edit" if isinstance(self.change, Edit) else "deletion"

    @classmethod
    def encode(cls, entry: Entry) -> LogEntry:
        """Encode an entry for the wire, once for all streams."""
        entry_id = str(entry.id)
        if isinstance(entry, Message):
            return cls(entry.id, sse.event(entry.json(), id=entry_id), entry, None, entry.trace)
        name = "edited" if isinstance(entry, Edit) else "deleted"
        frame = sse.event(entry.json(), id=entry_id, name=name)
        return cls(entry.id, frame, None, entry, entry.trace)


class EventLog:
    """The source of every stream and every page.

    A position counts the entries since the process started, so that it stays valid when old
    entries are dropped. The log is bounded by the number of entries that have a frame, and by the
    bytes of the frames.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._entries: list[LogEntry] = []
        # How many entries have a frame; the others keep their position.
        self._framed = 0
        self.size = 0
        """The bytes of all frames."""
        self._waiters: list[tuple[EntryId, asyncio.Future[None]]] = []
        self.start = 0
        """The position of the oldest entry in memory."""
        self.low_watermark = ORIGIN
        """Entries up to this id may be missing from memory."""
        self.last = ORIGIN
        """The id up to which the stream has been read."""
        self.is_complete = False
        """Whether memory has all that Redis keeps."""
        self.replaced_at = ORIGIN
        """The id at which all messages were replaced."""
        self.is_loaded = False
        """Whether the log has been loaded from Redis since the process started."""
        self.revision = 0
        """Grows with each edit, deletion and reload, which make earlier reads outdated."""

    def count_by_kind(self) -> Counter[str]:
        """Count the entries in memory by their kind, without what was deleted or replaced."""
        return Counter(entry.kind for entry in self._entries if entry.frame)

    @property
    def end(self) -> int:
        """The position after the newest entry."""
        return self.start + len(self._entries)

    def load(
        self,
        entries: list[LogEntry],
        *,
        last: EntryId,
        low_watermark: EntryId = ORIGIN,
        replaced_at: EntryId = ORIGIN,
    ) -> None:
        """Replace everything; `entries` is what the stream has after `low_watermark`.

        After 0-0 that is all of it.
        """
        # Skip one position: one from before the reload must never be valid.
        self.start = self.end + 1 if self.is_loaded else self.end
        self._entries = []
        self._framed = self.size = 0
        self.low_watermark = low_watermark
        self.is_complete = low_watermark == ORIGIN
        self.replaced_at = replaced_at
        self.revision += 1
        self.is_loaded = True
        self.append(entries, last)

    def append(self, entries: Iterable[LogEntry], last: EntryId) -> None:
        """Append new entries; `last` is the id up to which the stream has been read."""
        for entry in entries:
            self._entries.append(entry)
            self._framed += 1
            self.size += len(entry.frame)
            if entry.change is not None:
                self.revision += 1
                self._apply(entry.change)
        self._trim()
        self.last = last
        self._wake_waiters()

    def _apply(self, change: Change) -> None:
        target = self._find(change.target)
        # A deleted message stays deleted.
        if target is not None and target.message is not None:
            self._replace(target, change.message if isinstance(change, Edit) else None)
        for replaced in map(self._find, change.replaces):
            if replaced is not None and isinstance(replaced.change, Edit):
                self._replace(replaced, None)

    def _replace(self, entry: LogEntry, message: Message | None) -> None:
        """Replace the content of an entry, or remove it; its place in the order stays."""
        self.size -= len(entry.frame)
        entry.frame = b"" if message is None else LogEntry.encode(message).frame
        entry.message, entry.change = message, None
        self.size += len(entry.frame)
        self._framed -= message is None

    def _trim(self) -> None:
        while self._framed > self.max_entries or self.size > self.max_bytes:
            # Redis limits the number of messages too, but not their bytes.
            self.is_complete = self.is_complete and self._framed > self.max_entries
            self.low_watermark = self._entries[0].id
            self._drop(1)

    def trim_to(self, trimmed: EntryId) -> None:
        """Drop all entries up to this id, as Redis has done."""
        if trimmed > self.low_watermark:
            self._drop(bisect_right(self._entries, trimmed, key=_by_id))
            self.low_watermark = trimmed
            # Memory now holds all that Redis still has.
            self.is_complete = True

    def _drop(self, count: int) -> None:
        """Drop the oldest entries."""
        for entry in self._entries[:count]:
            self._framed -= bool(entry.frame)
            self.size -= len(entry.frame)
        del self._entries[:count]
        self.start += count

    def has_all_after(self, cursor: EntryId) -> bool:
        """Return whether memory has everything after a cursor, up to `last`."""
        return self.is_loaded and (cursor >= self.low_watermark or self.is_complete)

    def is_outdated(self, cursor: EntryId) -> bool:
        """Return whether the messages of a cursor have been replaced since.

        A client that has just loaded the list may continue after its newest message, which may be
        older than the replacement, or after 0-0 if the list was empty.
        """
        if cursor >= self.replaced_at or cursor == ORIGIN:
            return False
        newest = next(self.newest(), None)
        return newest is None or cursor != newest.id

    def position_after(self, cursor: EntryId) -> int:
        """Return the position of the first entry after `cursor` (>= `low_watermark`)."""
        return self.start + bisect_right(self._entries, cursor, key=_by_id)

    def id_before(self, position: int) -> EntryId:
        """Return the cursor of a stream at a position that is in memory."""
        return (
            self._entries[position - self.start - 1].id
            if position > self.start
            else self.low_watermark
        )

    def frames(self, position: int, max_bytes: int) -> tuple[bytes, int]:
        """Return the frames from `position` on, about `max_bytes`, and the position after them."""
        entries = self.read(position, max_bytes)
        return b"".join([entry.frame for entry in entries]), position + len(entries)

    def read(self, position: int, max_bytes: int) -> list[LogEntry]:
        """Return the entries from `position` on, at most about `max_bytes` of frames."""
        size = 0
        begin = position - self.start
        for index in range(begin, len(self._entries)):
            size += len(self._entries[index].frame)
            if size >= max_bytes:
                return self._entries[begin : index + 1]
        return self._entries[begin:]

    def between(self, position: int, end: int) -> list[LogEntry]:
        """Return the entries from `position` on and before `end` that are still in memory."""
        return self._entries[max(position - self.start, 0) : max(end - self.start, 0)]

    def get(self, entry_id: EntryId) -> Message | None:
        """Return the message with this id, if it is in memory and has not been deleted."""
        entry = self._find(entry_id)
        return None if entry is None else entry.message

    def _find(self, entry_id: EntryId) -> LogEntry | None:
        index = bisect_left(self._entries, entry_id, key=_by_id)
        if index < len(self._entries) and self._entries[index].id == entry_id:
            return self._entries[index]
        return None

    def newest(self, before: EntryId | None = None) -> Iterator[Message]:
        """Iterate over the messages in memory, newest first, older than `before`."""
        stop = len(self._entries)
        if before is not None:
            stop = bisect_left(self._entries, before, key=_by_id)
        for index in range(stop - 1, -1, -1):
            message = self._entries[index].message
            if message is not None:
                yield message

    def entries_after(self, after: EntryId) -> list[Entry]:
        """Return what is in memory after an id, oldest first."""
        begin = bisect_right(self._entries, after, key=_by_id)
        contents = (entry.message or entry.change for entry in self._entries[begin:])
        return [content for content in contents if content is not None]

    async def wait_for(self, entry_id: EntryId) -> None:
        """Wait until the stream has been read up to `entry_id`."""
        if self.last >= entry_id:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((entry_id, waiter))
        await waiter

    def _wake_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for entry_id, waiter in waiting:
            if waiter.done():
                continue
            if entry_id <= self.last:
                waiter.set_result(None)
            else:
                self._waiters.append((entry_id, waiter))
