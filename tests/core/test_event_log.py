"""The event log: bounds, positions, deletions, and reading in both directions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from guestbook.core.event_log import EventLog, LogEntry
from guestbook.core.messages import ORIGIN, Deletion, Edit, Entry, EntryId, Message
from tests.support.waiting import PATIENCE, eventually

MANY_BYTES = 10**9


def message(ms: int, text: str = "hello") -> LogEntry:
    """Make a message with the id `ms-0`."""
    return LogEntry.encode(Message(EntryId(ms, 0), None, text, "pod-a"))


def deletion(ms: int, target: int) -> LogEntry:
    """Make the deletion `ms-0` of the message `target-0`."""
    return LogEntry.encode(Deletion(EntryId(ms, 0), EntryId(target, 0)))


def edit(ms: int, target: int, text: str, *replaced: int) -> LogEntry:
    """Make the edit `ms-0` of the message `target-0`, in place of earlier ones."""
    edited = Message(EntryId(target, 0), None, text, "pod-a", edited_at=EntryId(ms, 0).time)
    return LogEntry.encode(Edit(EntryId(ms, 0), edited, tuple(EntryId(n, 0) for n in replaced)))


def filled(*entries: LogEntry, most: int = 100, most_bytes: int = MANY_BYTES) -> EventLog:
    """Load an empty log and append the entries one by one."""
    log = EventLog(most, most_bytes)
    log.load([], last=ORIGIN)
    for entry in entries:
        log.append([entry], entry.id)
    return log


def numbers(entries: Iterable[LogEntry | Message]) -> list[int]:
    """Return the first halves of the ids."""
    return [entry.id.ms for entry in entries]


def messages_after(log: EventLog, after: EntryId) -> list[Message]:
    """Return the messages after an id, oldest first."""
    return [entry for entry in log.entries_after(after) if isinstance(entry, Message)]


def test_log_is_read_in_both_directions() -> None:
    """`newest` reads before an id, `entries_after` after one; neither includes the id itself."""
    log = filled(*map(message, [1, 2, 3, 4]))
    assert numbers(log.newest()) == [4, 3, 2, 1]
    assert numbers(log.newest(EntryId(3, 0))) == [2, 1]
    assert numbers(log.newest(EntryId(3, 1))) == [3, 2, 1]
    assert numbers(messages_after(log, ORIGIN)) == [1, 2, 3, 4]
    assert numbers(messages_after(log, EntryId(2, 0))) == [3, 4]
    assert numbers(messages_after(log, EntryId(1, 7))) == [2, 3, 4]
    assert numbers(messages_after(log, EntryId(4, 0))) == []
    assert numbers(log.newest(EntryId(1, 0))) == []


def test_log_is_bounded_by_bytes() -> None:
    """Long messages drop others earlier; then Redis has more than memory."""
    size = len(message(1, "x" * 500).frame)
    log = filled(*(message(n, "x" * 500) for n in range(1, 6)), most_bytes=2 * size)
    assert numbers(log.newest()) == [5, 4]
    assert log.low_watermark == EntryId(3, 0)
    assert not log.is_complete
    assert log.has_all_after(EntryId(3, 0))
    assert not log.has_all_after(EntryId(2, 0))


def test_entry_larger_than_the_log_leaves_it_empty() -> None:
    """A bound below the size of one entry breaks nothing."""
    log = filled(message(1), message(2), most_bytes=10)
    assert numbers(log.newest()) == []
    assert (log.low_watermark, log.last) == (EntryId(2, 0), EntryId(2, 0))
    assert log.start == log.end == 2
    log.append([message(3, "")], EntryId(3, 0))
    assert log.end == 3


def test_deleted_message_is_in_no_read() -> None:
    """Pages and streams lack the message; streams have the deletion."""
    log = filled(message(1, "one"), message(2, "two"), message(3, "three"), deletion(4, 2))
    assert numbers(log.newest()) == [3, 1]
    assert numbers(messages_after(log, ORIGIN)) == [1, 3]
    assert log.get(EntryId(2, 0)) is None
    assert log.get(EntryId(4, 0)) is None
    frames, position = log.frames(log.start, MANY_BYTES)
    assert frames == message(1, "one").frame + message(3, "three").frame + deletion(4, 2).frame
    assert b"two" not in frames
    assert position == log.end


def test_deleted_message_makes_room() -> None:
    """Only entries with a frame count, in number and in bytes."""
    log = filled(message(1), message(2), message(3), deletion(4, 2), deletion(5, 3), most=3)
    assert numbers(log.newest()) == [1]
    log.append([message(6)], EntryId(6, 0))
    assert numbers(log.newest()) == [6]
    assert log.position_after(EntryId(3, 0)) == log.end - 3


def test_deletion_without_a_target_changes_nothing() -> None:
    """The target may have been dropped, deleted before, or be a deletion."""
    log = filled(message(1), message(2), message(3), most=2)
    log.append([deletion(4, 1)], EntryId(4, 0))
    assert numbers(log.newest()) == [3]
    log = filled(message(1), message(2), deletion(3, 1), deletion(4, 1), deletion(5, 3))
    assert numbers(log.newest()) == [2]
    assert log.frames(log.start, MANY_BYTES)[0].count(b"event: deleted") == 3


def test_edited_message_has_its_new_words_in_its_old_place() -> None:
    """Pages and streams have the new words only; streams also have the edit."""
    log = filled(message(1, "teh"), message(2), edit(3, 1, "the"))
    assert [each.text for each in log.newest()] == ["hello", "the"]
    found = log.get(EntryId(1, 0))
    assert found is not None
    assert found.edited_at == "1970-01-01T00:00:00.003Z"
    assert log.get(EntryId(3, 0)) is None
    frames, _ = log.frames(log.start, MANY_BYTES)
    assert frames.count(b"the") == 2
    assert b"teh" not in frames
    assert frames.endswith(b"id: 3-0\nevent: edited\ndata: %s\n\n" % found.json())


def test_later_edit_takes_the_place_of_earlier_ones() -> None:
    """No words but the newest are left, also where an edit between was never seen."""
    log = filled(message(1, "one"), edit(2, 1, "two"), edit(4, 1, "four", 3, 2))
    frames, _ = log.frames(log.start, MANY_BYTES)
    assert [each.text for each in log.newest()] == ["four"]
    assert frames.count(b"id: ") == 2
    assert b"one" not in frames
    assert b"two" not in frames


def test_words_of_a_deleted_message_are_gone_with_its_edit() -> None:
    """A later edit does not bring it back."""
    gone = LogEntry.encode(Deletion(EntryId(3, 0), EntryId(1, 0), (EntryId(2, 0),)))
    log = filled(message(1, "one"), edit(2, 1, "two"), gone, edit(4, 1, "four"))
    assert list(log.newest()) == []
    frames, _ = log.frames(log.start, MANY_BYTES)
    assert b"two" not in frames
    assert log.get(EntryId(1, 0)) is None


def test_edit_counts_like_any_entry() -> None:
    """The edit takes a place and bytes, a replaced one takes neither."""
    log = filled(message(1), message(2), edit(3, 2, "x" * 500), edit(4, 2, "y", 3), most=3)
    assert numbers(log.newest()) == [2, 1]
    log = filled(message(1), edit(2, 1, "x" * 500), most_bytes=len(edit(2, 1, "x" * 500).frame))
    assert numbers(log.newest()) == []
    assert (log.low_watermark, log.end - log.start) == (EntryId(1, 0), 1)


def test_edit_outdates_what_was_read_before() -> None:
    """A reader of Redis notices by the revision that the words have changed."""
    log = filled(message(1))
    before = log.revision
    log.append([edit(2, 1, "new")], EntryId(2, 0))
    assert log.revision > before


def test_edit_of_what_is_no_message_changes_nothing() -> None:
    """The target may have been dropped, or be a deletion or another edit."""
    log = filled(message(1), edit(2, 1, "two"), deletion(3, 7), edit(4, 2, "x"), edit(5, 3, "x"))
    assert [each.text for each in log.newest()] == ["two"]
    assert log.frames(log.start, MANY_BYTES)[0].count(b"event: ") == 4


def test_frames_are_read_in_parts_of_about_the_given_size() -> None:
    """A part has at least one frame, and together they have each frame once."""
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


def test_log_drops_what_redis_has_trimmed() -> None:
    """Entries up to that id go, positions stay valid, and the log is complete."""
    size = len(message(1).frame)
    log = filled(*map(message, [1, 2, 3, 4]), deletion(5, 3), most_bytes=5 * size)
    end = log.end
    log.trim_to(EntryId(2, 0))
    assert numbers(messages_after(log, ORIGIN)) == [4]
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


def test_what_redis_has_trimmed_makes_room() -> None:
    """After a trim, the log takes as many new entries as were dropped."""
    log = filled(*map(message, [1, 2, 3]), deletion(4, 2), most=3)
    log.trim_to(EntryId(2, 0))
    for number, kept in ((5, [3, 5]), (6, [5, 6]), (7, [5, 6, 7])):
        log.append([message(number)], EntryId(number, 0))
        assert numbers(messages_after(log, ORIGIN)) == kept


def test_cursor_of_what_was_replaced_is_outdated() -> None:
    """Not that of a client that has loaded the list since: its newest message may be older."""
    log = EventLog(100, MANY_BYTES)
    entries = [message(2), deletion(3, 1)]
    ids = {"last": EntryId(9, 0), "replaced_at": EntryId(9, 0)}
    log.load(entries, **ids)
    outdated = [n for n in range(12) if log.is_outdated(EntryId(n, 0))]
    assert outdated == [1, 3, 4, 5, 6, 7, 8]
    log.load([], **ids)
    assert log.is_outdated(EntryId(2, 0))
    log.load(entries, last=EntryId(3, 0))
    assert not log.is_outdated(EntryId(1, 0))


def test_entries_between_two_positions() -> None:
    """The entries of these that are still in memory."""
    log = filled(*map(message, range(1, 6)), most=3)
    assert log.start == 2
    assert numbers(log.between(3, 5)) == [4, 5]
    assert numbers(log.between(0, 4)) == [3, 4]
    assert log.between(0, 1) == log.between(4, 4) == []


def test_positions_go_on_after_a_reload() -> None:
    """After Redis has lost data no old position names a new entry."""
    log = filled(*map(message, [10, 11, 12]))
    end = log.end
    log.load([message(1), message(2)], last=EntryId(2, 0))
    assert log.start > end
    assert numbers(messages_after(log, ORIGIN)) == [1, 2]
    assert log.last == EntryId(2, 0)


def test_entry_has_the_message_and_its_frame() -> None:
    """Pages read the fields and streams the frame of the same message."""
    message = Message(EntryId(1, 0), "Ada", "one\ntwo: data: \u2028 é", "pod-a")
    entry = LogEntry.encode(message)
    assert entry.message is message
    assert entry.frame == b"id: 1-0\ndata: " + message.json() + b"\n\n"
    deletion = LogEntry.encode(Deletion(EntryId(2, 0), EntryId(1, 0)))
    assert deletion.message is None
    assert b'data: {"id":"1-0"}' in deletion.frame


async def test_wait_for_returns_when_the_entry_has_been_read() -> None:
    """Not earlier, also if a newer entry was read with it, and at once if it was read before."""
    log = filled(message(1))
    await asyncio.wait_for(log.wait_for(EntryId(1, 0)), PATIENCE)
    waiting = [asyncio.create_task(log.wait_for(EntryId(n, 0))) for n in (2, 3, 9)]
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


async def test_wait_may_begin_before_the_log_is_loaded() -> None:
    """It ends with the load that has the entry."""
    log = EventLog(100, MANY_BYTES)
    waiting = asyncio.create_task(log.wait_for(EntryId(1, 0)))
    await asyncio.sleep(0)
    log.load([message(1)], last=EntryId(1, 0))
    await asyncio.wait_for(waiting, 1)


def test_log_that_was_not_loaded_has_nothing() -> None:
    """Before the first load Redis may have what memory has not."""
    log = EventLog(100, MANY_BYTES)
    assert not log.is_loaded
    assert not log.is_complete
    assert not log.has_all_after(ORIGIN)
    log.load([message(3)], low_watermark=EntryId(2, 0), last=EntryId(3, 0))
    assert log.is_loaded
    assert not log.is_complete


@pytest.mark.parametrize("is_by_number", [True, False])
def test_log_is_filled_up_to_its_bounds(is_by_number: bool) -> None:
    """As many entries and bytes as it may have are kept; one more pushes out the oldest.

    By number it stays complete: Redis keeps no more messages than that.
    """
    size = len(message(1).frame)
    bounds = {"most": 3} if is_by_number else {"most_bytes": 3 * size}
    log = filled(*map(message, [1, 2, 3]), **bounds)
    assert numbers(messages_after(log, ORIGIN)) == [1, 2, 3]
    assert (log.start, log.low_watermark, log.is_complete) == (0, ORIGIN, True)
    log.append([message(4)], EntryId(4, 0))
    assert numbers(messages_after(log, ORIGIN)) == [2, 3, 4]
    assert (log.start, log.low_watermark, log.last) == (1, EntryId(1, 0), EntryId(4, 0))
    assert log.get(EntryId(1, 0)) is None
    assert log.is_complete == log.has_all_after(ORIGIN) == is_by_number


def test_log_that_drops_for_bytes_at_its_number_is_not_complete() -> None:
    """Redis keeps as many entries as the number allows, however long they are."""
    size = len(message(1).frame)
    log = filled(*map(message, [1, 2, 3]), most=3, most_bytes=3 * size - 1)
    assert numbers(messages_after(log, ORIGIN)) == [2, 3]
    assert not log.is_complete


def test_every_deletion_and_reload_raises_the_revision() -> None:
    """Messages do not; each deletion does, even of a message that is not in memory."""
    log = filled(message(1), message(2))
    revisions = [log.revision]
    log.append([message(3)], EntryId(3, 0))
    assert log.revision == revisions[0]
    for entry in (deletion(4, 2), deletion(5, 1), deletion(6, 99)):
        log.append([entry], entry.id)
        revisions.append(log.revision)
    log.load([message(1)], last=EntryId(1, 0))
    revisions.append(log.revision)
    assert len(set(revisions)) == len(revisions)
    assert revisions == sorted(revisions)


async def test_finished_waiter_holds_up_no_other() -> None:
    """One that was cancelled is passed over, whatever it waited for."""
    log = filled(message(1))
    first, second, third = (asyncio.create_task(log.wait_for(EntryId(n, 0))) for n in (2, 2, 3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    log.append([message(2)], EntryId(2, 0))
    await asyncio.wait_for(second, PATIENCE)
    assert not third.done()
    log.append([message(3)], EntryId(3, 0))
    await asyncio.wait_for(third, PATIENCE)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 10), st.integers(1, 7))
def test_paging_returns_each_message_once(kinds: list[bool], most: int, page: int) -> None:
    """A few at a time, in either direction and in order."""
    log = filled(most=most * 5)
    for number, is_message in enumerate(kinds, start=1):
        entry = message(number) if is_message else deletion(number, number // 2)
        log.append([entry], entry.id)
    everything = numbers(messages_after(log, ORIGIN))

    backwards: list[int] = []
    before: EntryId | None = None
    while piece := numbers(itertools.islice(log.newest(before), page)):
        backwards += piece
        before = EntryId(piece[-1], 0)
    assert backwards == everything[::-1]

    forwards: list[int] = []
    after = ORIGIN
    while piece := numbers(messages_after(log, after)[:page]):
        forwards += piece
        after = EntryId(piece[-1], 0)
    assert forwards == everything


@dataclass
class Model:
    """Everything that was ever appended, as a list."""

    entries: list[Entry] = field(default_factory=list)

    def deleted(self) -> set[EntryId]:
        """Return the targets of all deletions."""
        return {entry.target for entry in self.entries if isinstance(entry, Deletion)}

    def frames(self, dropped: int) -> bytes:
        """Return the frames for a client that has seen the first `dropped` entries."""
        gone = self.deleted()
        kept = self.entries[dropped:]
        return b"".join(LogEntry.encode(e).frame for e in kept if e.id not in gone)

    def messages(self, dropped: int) -> list[EntryId]:
        """Return the ids of the messages after the first `dropped` entries."""
        gone = self.deleted()
        kept = self.entries[dropped:]
        return [e.id for e in kept if isinstance(e, Message) and e.id not in gone]


class LogMachine(RuleBasedStateMachine):
    """After any appends, deletions and trims the log agrees with the model."""

    @initialize(most=st.integers(1, 6), most_bytes=st.integers(200, 2000))
    def begin(self, most: int, most_bytes: int) -> None:
        self.log = filled(most=most, most_bytes=most_bytes)
        self.model = Model()

    def _append(self, entries: list[Entry]) -> None:
        self.model.entries += entries
        self.log.append(map(LogEntry.encode, entries), entries[-1].id)

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
        assert [r.id for r in messages_after(log, ORIGIN)] == model.messages(log.start)
        for position in range(log.start, log.end + 1):
            assert log.frames(position, MANY_BYTES) == (model.frames(position), log.end)
            seen = model.entries[position - 1].id if position else ORIGIN
            assert log.position_after(seen) == position
            assert log.id_before(position) == seen
        if log.start:
            assert log.low_watermark == model.entries[log.start - 1].id

    @invariant()
    def is_bounded(self) -> None:
        frames = log_frames(self.log)
        assert len(frames) <= self.log.max_entries
        assert self.log.size == sum(map(len, frames)) <= self.log.max_bytes


def log_frames(log: EventLog) -> list[bytes]:
    """Return the frames of a log, one by one."""
    frames, position = [], log.start
    while position < log.end:
        frame, position = log.frames(position, 1)
        frames.append(frame)
    return [frame for frame in frames if frame]


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(deadline=None, max_examples=50)
