"""The log in memory: its bounds, its positions, deletions, and reading it in both directions."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from guestbook.core.event_log import EventLog, LogEntry
from guestbook.core.messages import ORIGIN, Deletion, Entry, EntryId, Message
from tests.support.waiting import eventually

MANY_BYTES = 10**9


def message(ms: int, text: str = "hello") -> LogEntry:
    """A message with the id `ms-0`."""
    return LogEntry.of(Message(EntryId(ms, 0), None, text, "pod-a"))


def deletion(ms: int, target: int) -> LogEntry:
    """The deletion `ms-0` of the message `target-0`."""
    return LogEntry.of(Deletion(EntryId(ms, 0), EntryId(target, 0)))


def filled(*records: LogEntry, most: int = 100, most_bytes: int = MANY_BYTES) -> EventLog:
    """A log that has been loaded empty, and then got these records one by one."""
    log = EventLog(most, most_bytes)
    log.load([], low_watermark=ORIGIN, last=ORIGIN, is_complete=True)
    for record in records:
        log.append([record], record.id)
    return log


def numbers(records: object) -> list[int]:
    """The first halves of the records' ids."""
    assert hasattr(records, "__iter__")
    return [record.id.ms for record in records]


def test_log_gives_its_messages_in_both_directions() -> None:
    """Newest first before an id, oldest first after one; the id itself is in neither."""
    log = filled(*map(message, [1, 2, 3, 4]))
    assert numbers(log.newest()) == [4, 3, 2, 1]
    assert numbers(log.newest(EntryId(3, 0))) == [2, 1]
    assert numbers(log.newest(EntryId(3, 1))) == [3, 2, 1]
    assert numbers(log.oldest(ORIGIN)) == [1, 2, 3, 4]
    assert numbers(log.oldest(EntryId(2, 0))) == [3, 4]
    assert numbers(log.oldest(EntryId(1, 7))) == [2, 3, 4]
    assert numbers(log.oldest(EntryId(4, 0))) == []
    assert numbers(log.newest(EntryId(1, 0))) == []


def test_log_keeps_the_newest_records_up_to_its_number() -> None:
    """The oldest go first; what is gone is below the floor."""
    log = filled(*map(message, range(1, 8)), most=3)
    assert numbers(log.newest()) == [7, 6, 5]
    assert log.low_watermark == EntryId(4, 0)
    assert log.last == EntryId(7, 0)
    assert log.get(EntryId(4, 0)) is None


def test_log_keeps_the_newest_records_up_to_its_bytes() -> None:
    """Long messages push others out earlier; then Redis has more than memory."""
    size = len(message(1, "x" * 500).frame)
    log = filled(*(message(n, "x" * 500) for n in range(1, 6)), most_bytes=2 * size)
    assert numbers(log.newest()) == [5, 4]
    assert log.low_watermark == EntryId(3, 0)
    assert not log.is_complete


def test_log_that_drops_by_number_only_is_still_whole() -> None:
    """Redis keeps no more than the same number, so that nothing is to be had from it."""
    assert filled(*map(message, range(1, 8)), most=3).is_complete


def test_record_larger_than_the_log_leaves_it_empty_and_true() -> None:
    """Even a bound below one record's size breaks nothing."""
    log = filled(message(1), message(2), most_bytes=10)
    assert numbers(log.newest()) == []
    assert (log.low_watermark, log.last) == (EntryId(2, 0), EntryId(2, 0))
    assert log.start == log.end == 2
    log.append([message(3, "")], EntryId(3, 0))
    assert log.end == 3


def test_deleted_message_is_gone_from_all_reads() -> None:
    """And from what later streams are given, while the deletion itself is there."""
    log = filled(message(1, "one"), message(2, "two"), message(3, "three"), deletion(4, 2))
    assert numbers(log.newest()) == [3, 1]
    assert numbers(log.oldest(ORIGIN)) == [1, 3]
    assert log.get(EntryId(2, 0)) is None
    assert log.get(EntryId(4, 0)) is None
    frames, position = log.frames(log.start, MANY_BYTES)
    assert frames == message(1, "one").frame + message(3, "three").frame + deletion(4, 2).frame
    assert b"two" not in frames
    assert position == log.end


def test_deleted_message_leaves_room_for_another() -> None:
    """Only what has a frame counts, in number and in bytes."""
    log = filled(message(1), message(2), message(3), deletion(4, 2), deletion(5, 3), most=3)
    assert numbers(log.newest()) == [1]
    log.append([message(6)], EntryId(6, 0))
    assert numbers(log.newest()) == [6]
    assert log.position_after(EntryId(3, 0)) == log.end - 3


def test_deletion_of_what_is_not_there_changes_nothing() -> None:
    """Of a message that was dropped before, of one deleted already, and of a deletion."""
    log = filled(message(1), message(2), message(3), most=2)
    log.append([deletion(4, 1)], EntryId(4, 0))
    assert numbers(log.newest()) == [3]
    log = filled(message(1), message(2), deletion(3, 1), deletion(4, 1), deletion(5, 3))
    assert numbers(log.newest()) == [2]
    assert log.frames(log.start, MANY_BYTES)[0].count(b"event: deleted") == 3


def test_positions_stay_true_when_old_records_are_dropped() -> None:
    """A position means the same record before and after, for as long as it is kept."""
    log = filled(*map(message, [1, 2, 3]), most=3)
    third = log.position_after(EntryId(2, 0))
    assert log.frames(third, MANY_BYTES)[0] == message(3).frame
    log.append([message(4), message(5)], EntryId(5, 0))
    assert log.start == third
    assert log.position_after(EntryId(2, 0)) == third
    assert log.frames(third, MANY_BYTES)[0] == b"".join(message(n).frame for n in (3, 4, 5))


def test_frames_come_in_pieces_of_about_the_size_that_was_asked_for() -> None:
    """At least one record at a time, and all of them in the end, each once."""
    log = filled(*map(message, range(1, 10)))
    size = len(message(1).frame)
    for most in (1, size, 3 * size, MANY_BYTES):
        position, pieces = log.start, []
        while position < log.end:
            piece, position = log.frames(position, most)
            assert 0 < len(piece) < most + size
            pieces.append(piece)
        assert b"".join(pieces) == b"".join(message(n).frame for n in range(1, 10))
    assert log.frames(log.end, 1) == (b"", log.end)


def test_log_forgets_what_redis_has_trimmed() -> None:
    """Up to that id and no further; positions stay true, and nothing more is to be had of Redis."""
    size = len(message(1).frame)
    log = filled(*map(message, [1, 2, 3, 4]), deletion(5, 3), most_bytes=5 * size)
    end = log.end
    log.trim_to(EntryId(2, 0))
    assert numbers(log.oldest(ORIGIN)) == [4]
    assert (log.low_watermark, log.last, log.end) == (EntryId(2, 0), EntryId(5, 0), end)
    assert log.position_after(EntryId(2, 0)) == log.start == end - 3
    log.trim_to(EntryId(1, 0))
    assert log.low_watermark == EntryId(2, 0)
    log = filled(*map(message, [1, 2, 3, 4]), most_bytes=2 * size)
    assert not log.is_complete
    log.trim_to(EntryId(4, 0))
    assert log.is_complete
    assert (log.start, log.low_watermark) == (log.end, EntryId(4, 0))
    log.append([message(6)], EntryId(6, 0))
    assert numbers(log.newest()) == [6]


def test_reload_keeps_counting_positions() -> None:
    """After Redis has lost data no old position points at a new record."""
    log = filled(*map(message, [10, 11, 12]))
    end = log.end
    log.load([message(1), message(2)], low_watermark=ORIGIN, last=EntryId(2, 0), is_complete=True)
    assert log.start > end
    assert numbers(log.oldest(ORIGIN)) == [1, 2]
    assert log.last == EntryId(2, 0)


def test_an_entry_has_its_message_and_the_same_as_a_frame() -> None:
    """Pages read the fields, streams the frame: both tell of the same message."""
    message = Message(EntryId(1, 0), "Ada", "one\ntwo: data: \u2028 é", "pod-a")
    entry = LogEntry.of(message)
    assert entry.message is message
    assert entry.frame == b"id: 1-0\ndata: " + message.json() + b"\n\n"
    deletion = LogEntry.of(Deletion(EntryId(2, 0), EntryId(1, 0)))
    assert deletion.message is None
    assert b'data: {"id":"1-0"}' in deletion.frame


async def test_who_waits_for_an_entry_is_told_when_it_is_there() -> None:
    """Not earlier, not only when it is the newest; and at once when it was there before."""
    log = filled(message(1))
    await asyncio.wait_for(log.reached(EntryId(1, 0)), 1)
    waiting = [asyncio.create_task(log.reached(EntryId(n, 0))) for n in (2, 3, 9)]
    await asyncio.sleep(0)
    log.append([message(2)], EntryId(2, 0))
    await eventually(waiting[0].done)
    assert not waiting[1].done()
    log.append([message(3), message(4)], EntryId(4, 0))
    await eventually(waiting[1].done)
    waiting[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[2]
    log.append([message(9)], EntryId(9, 0))


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(1, 10),
    st.integers(1, 7),
)
def test_pages_cover_all_messages_once(kinds: list[bool], most: int, page: int) -> None:
    """Read a few at a time, in either direction, every message comes once, in order."""
    log = filled(most=most * 5)
    for number, is_message in enumerate(kinds, start=1):
        record = message(number) if is_message else deletion(number, number // 2)
        log.append([record], record.id)
    everything = numbers(log.oldest(ORIGIN))

    backwards: list[int] = []
    before: EntryId | None = None
    while piece := numbers(itertools.islice(log.newest(before), page)):
        backwards += piece
        before = EntryId(piece[-1], 0)
    assert backwards == everything[::-1]

    forwards: list[int] = []
    after = ORIGIN
    while piece := numbers(itertools.islice(log.oldest(after), page)):
        forwards += piece
        after = EntryId(piece[-1], 0)
    assert forwards == everything


@dataclass
class Model:
    """All that ever happened, in the plainest form."""

    entries: list[Entry] = field(default_factory=list)

    def deleted(self) -> set[EntryId]:
        """The ids that deletions name."""
        return {entry.target for entry in self.entries if isinstance(entry, Deletion)}

    def frames(self, dropped: int) -> bytes:
        """What a client that has seen the first `dropped` entries is to get."""
        gone = self.deleted()
        return b"".join(LogEntry.of(e).frame for e in self.entries[dropped:] if e.id not in gone)

    def messages(self, dropped: int) -> list[EntryId]:
        """The ids of the messages among the entries that are kept."""
        gone = self.deleted()
        kept = self.entries[dropped:]
        return [e.id for e in kept if isinstance(e, Message) and e.id not in gone]


class LogMachine(RuleBasedStateMachine):
    """Whatever is appended and deleted, the log agrees with a list that forgets nothing."""

    @initialize(most=st.integers(1, 6), most_bytes=st.integers(200, 2000))
    def begin(self, most: int, most_bytes: int) -> None:
        self.log = filled(most=most, most_bytes=most_bytes)
        self.model = Model()

    def _append(self, entries: list[Entry]) -> None:
        self.model.entries += entries
        self.log.append(map(LogEntry.of, entries), entries[-1].id)

    def _next(self) -> EntryId:
        return EntryId(1, len(self.model.entries) + 1)

    @rule(lengths=st.lists(st.integers(0, 400), min_size=1, max_size=5))
    def post(self, lengths: list[int]) -> None:
        first = self._next()
        ids = [EntryId(1, first.seq + n) for n in range(len(lengths))]
        pairs = zip(ids, lengths, strict=True)
        self._append([Message(own, None, "x" * length, "p") for own, length in pairs])

    @rule(age=st.integers(0, 8))
    def delete(self, age: int) -> None:
        messages = [e for e in self.model.entries if isinstance(e, Message)]
        if messages:
            target = messages[max(0, len(messages) - 1 - age)].id
            self._append([Deletion(self._next(), target)])

    @rule(kept=st.integers(0, 8))
    def trim(self, kept: int) -> None:
        gone = self.model.entries[: max(0, len(self.model.entries) - kept)]
        if gone:
            self.log.trim_to(gone[-1].id)
            assert self.log.start >= len(gone)

    @invariant()
    def agrees(self) -> None:
        log, model = self.log, self.model
        assert log.end == len(model.entries)
        assert [r.id for r in log.oldest(ORIGIN)] == model.messages(log.start)
        for position in range(log.start, log.end + 1):
            assert log.frames(position, MANY_BYTES) == (model.frames(position), log.end)
            seen = model.entries[position - 1].id if position else ORIGIN
            assert log.position_after(seen) == position
        if log.start:
            assert log.low_watermark == model.entries[log.start - 1].id

    @invariant()
    def is_bounded(self) -> None:
        frames = log_frames(self.log)
        assert len(frames) <= self.log.max_entries
        assert sum(map(len, frames)) <= self.log.max_bytes


def log_frames(log: EventLog) -> list[bytes]:
    """The frames that a log holds, one by one."""
    frames, position = [], log.start
    while position < log.end:
        frame, position = log.frames(position, 1)
        frames.append(frame)
    return [frame for frame in frames if frame]


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(deadline=None, max_examples=50)
