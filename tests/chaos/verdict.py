"""Compare what was acknowledged, what is stored, and what each reader received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.readers import Reader
from tests.chaos.writers import Writers

Entries = list[tuple[str, dict[str, str]]]


def order(entry_id: str) -> tuple[int, int]:
    """Return an id as two numbers, which is how ids compare."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


class Period(NamedTuple):
    """The start of a fault, or of the time between two, in Redis's ms."""

    since_ms: int
    name: str


@dataclass
class Tally:
    """The messages of some periods, and how they were delivered."""

    messages: int = 0
    deliveries: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.disordered)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.messages + other.messages,
            self.deliveries + other.deliveries,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.disordered + other.disordered,
        )


@dataclass
class Verdict:
    """The tallies by fault, and the violations in words."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    violations: Counter[str] = field(default_factory=Counter)
    resets: int = 0

    @property
    def total(self) -> Tally:
        return sum(self.tallies.values(), Tally())


def judge(
    stream: Entries, before: str, writers: Writers, readers: Iterable[Reader], periods: list[Period]
) -> Verdict:
    """Compare the stream with writers and readers; `before` is its last id at the start."""
    judge = _Judge(periods)
    judge.stored(stream, before, writers)
    for reader in readers:
        judge.read(reader)
    return judge.verdict


class _Judge:
    def __init__(self, periods: list[Period]) -> None:
        self.verdict = Verdict({period.name: Tally() for period in periods})
        self._periods = periods
        self._tallies: dict[str, Tally] = {}
        self._ids: list[str] = []
        self._deleted: set[str] = set()
        self._replaced: set[str] = set()
        # The newest words of edited messages, with the id of the edit.
        self._edits: dict[str, tuple[str, str]] = {}

    def _of(self, entry_id: str) -> Tally:
        """Return the tally of the period in which an entry was stored, by its id."""
        tally = self._tallies.get(entry_id)
        if tally is None:
            ms = order(entry_id)[0]
            name = self._periods[0].name
            for period in self._periods:
                if period.since_ms > ms:
                    break
                name = period.name
            tally = self._tallies[entry_id] = self.verdict.tallies[name]
        return tally

    def stored(self, stream: Entries, before: str, writers: Writers) -> None:
        self._ids = [entry_id for entry_id, _ in stream]
        self._deleted = {fields["deleted"] for _, fields in stream if "deleted" in fields}
        self._edits = {f["edited"]: (i, f["body"]) for i, f in stream if "edited" in f}
        for _, fields in stream:
            self._replaced.update(filter(None, fields.get("replaces", "").split(",")))
        new = [(i, f["text"]) for i, f in stream if order(i) > order(before) and "text" in f]
        texts = dict(new)
        for entry_id in [*texts, *self._deleted, *self._edits]:
            self._of(entry_id).messages += 1
        for text, entry_id in writers.acknowledged.items():
            if entry_id not in self._deleted and texts.get(entry_id) != text:
                self._of(entry_id).lost += 1
                self.verdict.violations["acknowledged, but not stored"] += 1
        seen: set[str] = set()
        for entry_id, text in new:
            if text in seen:
                self._of(entry_id).doubled += 1
                self.verdict.violations["stored twice"] += 1
            elif text in writers.refused:
                self.verdict.violations["refused, but stored"] += 1
            elif text not in writers.acknowledged and text not in writers.attempted:
                self.verdict.violations["stored, but not posted"] += 1
            elif writers.acknowledged.get(text, entry_id) != entry_id:
                self._of(entry_id).doubled += 1
                self.verdict.violations["stored again after it was deleted"] += 1
            seen.add(text)
        for entry_id, text in writers.edited.items():
            if entry_id not in self._deleted and self._edits.get(entry_id, ("", ""))[1] != text:
                self._of(entry_id).lost += 1
                self.verdict.violations["an edit was acknowledged, but not stored"] += 1
        for entry_id in writers.deleted - self._deleted:
            self._of(entry_id).lost += 1
            self.verdict.violations["a deletion was acknowledged, but not stored"] += 1

    def read(self, reader: Reader) -> None:
        self.verdict.resets += reader.resets
        seen: set[str] = set()
        newest = order(reader.first)
        for entry_id in reader.ids:
            tally, place = self._of(entry_id), order(entry_id)
            tally.deliveries += 1
            if entry_id in seen:
                tally.doubled += 1
                self.verdict.violations["delivered twice"] += 1
            elif place <= newest:
                tally.disordered += 1
                self.verdict.violations["delivered out of order"] += 1
            seen.add(entry_id)
            newest = max(newest, place)
        first = order(reader.first)
        due = {entry_id for entry_id in self._ids if order(entry_id) > first}
        for message_id, (edit_id, text) in self._edits.items():
            if edit_id in due and reader.words.get(message_id) != text:
                self._of(edit_id).lost += 1
                self.verdict.violations["a reader has old words"] += 1
        # A late reader gets no message that was deleted before, and no edit that was replaced.
        for entry_id in (due - seen) | (seen - due - self._deleted - self._replaced):
            self._of(entry_id).lost += 1
            self.verdict.violations[
                "not delivered" if entry_id in due else "delivered, but not stored any more"
            ] += 1
