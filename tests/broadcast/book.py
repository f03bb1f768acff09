"""A fan-out without a network: stored entries, a log, and streams that keep what they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator

from guestbook.broadcast import Fanout
from guestbook.broadcast.stream import State, Stream
from guestbook.core import ORIGIN, Deletion, Entry, EntryId, EventLog, LogEntry, Message
from tests.support.waiting import eventually

GREETING = b"event: pods\ndata: {}\n\n"
LONG = "x" * 30_000
# Without those of greetings, which are cursors.
_ID = re.compile(rb"(?:^|\0)id: (\d+)-0$(?!\nevent: pods$)", re.MULTILINE)
CURSOR = re.compile(rb"^: guestbook\nretry: \d+\nid: (\d+)-0\nevent: pods\n")


class MemoryStream(Stream):
    """A stream that keeps what it is sent. `room` is how many bytes its socket takes."""

    def __init__(self, fanout: Fanout, cursor: EntryId | None = None) -> None:
        super().__init__(fanout, "10.0.0.1", cursor)
        self.channel = self
        self.sent: list[bytes | memoryview] = []
        self.unsent: list[bytes | memoryview] = []
        self.room = sys.maxsize
        self.is_finished = False
        self.is_aborted = False
        self._ids: list[int] = []
        self._looked_at = 0
        self._tail = b""

    @staticmethod
    def frame(data: bytes) -> bytes:
        # As an empty chunk of HTTP would, an empty frame would end the response.
        assert data
        return data + b"\0"

    @staticmethod
    def send(channel: MemoryStream, framed: bytes | memoryview, /) -> int:
        if not channel.room:
            raise BlockingIOError
        sent = min(len(framed), channel.room)
        channel.sent.append(framed[:sent])
        channel.room -= sent
        return sent

    def write(self, framed: bytes | memoryview) -> None:
        if len(framed) <= self.room:
            self.sent.append(framed)
            return
        self.unsent.append(framed)
        if self.paused_at is None:
            self._fanout.pause(self)

    def make_room(self) -> None:
        """Take what could not be sent, as a client does that reads again."""
        self.room = sys.maxsize
        self.sent += self.unsent
        self.unsent.clear()
        if self.paused_at is not None:
            self._fanout.resume(self)

    def finish(self) -> None:
        self.is_finished = True

    def abort(self) -> None:
        self.is_aborted = True
        asyncio.get_running_loop().call_soon(self._fanout.connection_lost, self)

    @property
    def data(self) -> bytes:
        """Everything that was sent."""
        return b"".join(self.sent)

    @property
    def ids(self) -> list[int]:
        """The first halves of the ids of all events, in the order in which they were sent."""
        new = self._tail + b"".join(self.sent[self._looked_at :])
        self._looked_at = len(self.sent)
        lines, self._tail = new[: new.rfind(b"\n") + 1], new[new.rfind(b"\n") + 1 :]
        self._ids += [int(number) for number in _ID.findall(lines)]
        return list(self._ids)

    def count(self, name: str) -> int:
        """Return how many events of a name were sent."""
        return self.data.count(f"event: {name}\n".encode())

    def is_in(self, state: State) -> bool:
        return self.state is state

    def has_event(self, name: str) -> bool:
        return self.count(name) > 0


class Book:
    """A stored stream of entries, a log that holds the newest of them, and a fan-out."""

    def __init__(self, max_entries: int = 1000, max_bytes: int = 10**9) -> None:
        self.stored: list[Entry] = []
        self.trimmed = ORIGIN
        self.reads = 0
        self.failure: Exception | None = None
        self.is_readable = asyncio.Event()
        self.is_readable.set()
        self.delivered: list[int] = []
        self.log = EventLog(max_entries, max_bytes)
        self.fanout = Fanout(
            self.log,
            self.read_after,
            greeting=lambda: GREETING,
            on_delivered=lambda entries: self.delivered.extend(entry.id.ms for entry in entries),
        )

    async def read_after(
        self, cursor: EntryId, count: int
    ) -> tuple[list[Entry], EntryId | None, EntryId]:
        self.reads += 1
        found = [entry for entry in self.stored if entry.id > cursor][:count]
        await self.is_readable.wait()
        if self.failure is not None:
            raise self.failure
        return found, found[-1].id if found else None, self.trimmed

    def load(self, *, low_watermark: EntryId = ORIGIN) -> None:
        entries = [LogEntry.encode(entry) for entry in self.stored if entry.id > low_watermark]
        last = self.stored[-1].id if self.stored else ORIGIN
        self.log.load(entries, low_watermark=low_watermark, last=last)
        self.fanout.schedule_flush()

    def append(self, *entries: Entry) -> None:
        """Store entries and read them into the log at once."""
        for entry in entries:
            if isinstance(entry, Deletion):
                self.stored = [each for each in self.stored if each.id != entry.target]
        self.stored += entries
        self.log.append(map(LogEntry.encode, entries), entries[-1].id)
        self.fanout.schedule_flush()

    def open(self, cursor: int | None = None, *, room: int = sys.maxsize) -> MemoryStream:
        stream = MemoryStream(self.fanout, None if cursor is None else EntryId(cursor, 0))
        stream.room = room
        self.fanout.open(stream)
        return stream


def message(number: int, text: str = "hello") -> Message:
    return Message(EntryId(number, 0), None, text, "pod-a")


def deletion(number: int, target: int) -> Deletion:
    return Deletion(EntryId(number, 0), EntryId(target, 0))


def filled(count: int, *, low_watermark: int = 0, text: str = "hello") -> Book:
    """Messages numbered from 1; the log has those after `low_watermark`."""
    book = Book()
    book.stored = [message(number, text) for number in range(1, count + 1)]
    book.load(low_watermark=EntryId(low_watermark, 0))
    return book


async def until(stream: MemoryStream, *ids: int) -> None:
    """Wait until a stream was sent these entries, and check that there are no others."""
    await eventually(lambda: stream.ids[-1:] == list(ids)[-1:], every=0.001)
    assert stream.ids == list(ids)


@contextlib.asynccontextmanager
async def pinging(fanout: Fanout) -> AsyncIterator[None]:
    """Send pings meanwhile."""
    task = asyncio.create_task(fanout.ping())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
