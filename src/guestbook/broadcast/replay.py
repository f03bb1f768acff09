"""Batches of entries for streams that catch up, each read once for all streams that need it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import accumulate

from guestbook.core import Entry, EntryId, EventLog, LogEntry

# A client that does not read keeps its batch in memory: one is no larger than most sockets take.
_BATCH_BYTES = 32 * 1024
_MIN_ENTRIES, _MAX_ENTRIES = 8, 256
_BATCHES_KEPT = 32

Frame = Callable[[bytes], bytes]
ReadAfter = Callable[[EntryId, int], Awaitable[tuple[list[Entry], EntryId | None, EntryId]]]
"""`read_after(cursor, count)` reads the entries after a cursor, at most `count`.

Returns them, the id up to which they reach (None at the stream's end), and the id up to which the
stream has been trimmed. Raises UnavailableError.
"""


class ReplayBatch:
    """Consecutive entries, from after one id up to another, framed one by one."""

    def __init__(
        self, after: EntryId, reached: EntryId, entries: list[LogEntry], frame: Frame
    ) -> None:
        # A deleted message has an empty frame.
        frames = [frame(entry.frame) if entry.frame else b"" for entry in entries]
        self.after = after
        self.reached = reached
        self.frame = frame
        self._ids = [entry.id for entry in entries]
        self._offsets = list(accumulate(map(len, frames), initial=0))
        self._data = memoryview(b"".join(frames))

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size(self) -> int:
        """The size of all frames, in bytes."""
        return len(self._data)

    def frames_after(self, cursor: EntryId) -> tuple[memoryview, int]:
        """Return the frames after a cursor, without a copy, and the number of entries."""
        index = bisect_right(self._ids, cursor)
        return self._data[self._offsets[index] :], len(self) - index


class Replay:
    """A cache of the batches that were read last.

    Streams that were cut off together reconnect together: after their first batch they all need the
    same ones.
    """

    def __init__(self, log: EventLog, read_after: ReadAfter) -> None:
        self._log = log
        self._read_after = read_after
        self._revision = log.revision
        self._batches: deque[ReplayBatch] = deque(maxlen=_BATCHES_KEPT)
        self._reads: dict[tuple[EntryId, Frame, int], asyncio.Task[ReplayBatch | None]] = {}
        self._count = _MIN_ENTRIES

    async def after(self, cursor: EntryId, frame: Frame) -> ReplayBatch | None:
        """Return the batch after a cursor; None if the cursor was trimmed or replaced.

        Raises UnavailableError.
        """
        if self._log.is_outdated(cursor):
            return None
        if self._revision != self._log.revision:
            self.clear()
        for batch in reversed(self._batches):
            if batch.after <= cursor < batch.reached and batch.frame is frame:
                return batch
        if cursor >= self._log.low_watermark:
            return self._from_log(cursor, frame)
        # With the revision, because what was asked for before a deletion may have the message.
        key = cursor, frame, self._log.revision
        if key not in self._reads:
            self._reads[key] = asyncio.create_task(self._read(cursor, frame))
            self._reads[key].add_done_callback(lambda task: self._forget_read(key, task))
        # The read goes on when the stream that asked first is gone: others may wait for it too.
        return await asyncio.shield(self._reads[key])

    def _forget_read(
        self,
        key: tuple[EntryId, Frame, int],
        task: asyncio.Task[ReplayBatch | None],
    ) -> None:
        del self._reads[key]
        if not task.cancelled():
            # Were all its streams gone, asyncio would log an error that was never retrieved.
            task.exception()

    def _from_log(self, cursor: EntryId, frame: Frame) -> ReplayBatch:
        entries = self._log.read(self._log.position_after(cursor), _BATCH_BYTES)
        batch = ReplayBatch(cursor, entries[-1].id if entries else cursor, entries, frame)
        self._batches.append(batch)
        return batch

    async def _read(self, cursor: EntryId, frame: Frame) -> ReplayBatch | None:
        revision = self._log.revision
        entries, reached, trimmed = await self._read_after(cursor, self._count)
        if cursor < trimmed:
            return None
        log_entries = [LogEntry.encode(entry) for entry in entries]
        batch = ReplayBatch(cursor, reached or self._log.low_watermark, log_entries, frame)
        count = self._count * _BATCH_BYTES // (batch.size or 1)
        self._count = max(_MIN_ENTRIES, min(count, _MAX_ENTRIES))
        if self._log.revision == revision:
            self._batches.append(batch)
        return batch

    def clear(self) -> None:
        """Forget the batches that were read."""
        self._batches.clear()
        self._revision = self._log.revision
