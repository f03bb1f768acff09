"""Whether the promise was kept: what was acknowledged, what is stored, what everybody was given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.readers import Reader
from tests.chaos.writers import Writers

Entries = list[tuple[str, dict[str, str]]]


def order(entry_id: str) -> tuple[int, int]:
    """An id as what it compares as: two numbers."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


class Period(NamedTuple):
    """From when on (in Redis's ms) something happened, and what."""

    since_ms: int
    name: str


@dataclass
class Tally:
    """What was published in some time, and what became of it."""

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
    """The tallies by what happened at the time, and what is wrong, in words."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    wrongs: Counter[str] = field(default_factory=Counter)
    resets: int = 0

    @property
    def total(self) -> Tally:
        return sum(self.tallies.values(), Tally())


def judge(
    stream: Entries,
    before: str,
    writers: Writers,
    readers: Iterable[Reader],
    periods: list[Period],
) -> Verdict:
    """Compares the stream with what writers and readers know; `before` is where it began."""
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

    def _of(self, entry_id: str) -> Tally:
        """The tally of the time at which an entry was stored: its id says it."""
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
        new = [(i, f["text"]) for i, f in stream if order(i) > order(before) and "text" in f]
        texts = dict(new)
        for entry_id in [*texts, *self._deleted]:
            self._of(entry_id).messages += 1
        for text, entry_id in writers.acknowledged.items():
            if entry_id not in self._deleted and texts.get(entry_id) != text:
                self._of(entry_id).lost += 1
                self.verdict.wrongs["acknowledged, but not stored"] += 1
        seen: set[str] = set()
        for entry_id, text in new:
            if text in seen:
                self._of(entry_id).doubled += 1
                self.verdict.wrongs["stored twice"] += 1
            elif text not in writers.acknowledged and text not in writers.attempted:
                self.verdict.wrongs["stored, but by nobody"] += 1
            elif writers.acknowledged.get(text, entry_id) != entry_id:
                self._of(entry_id).doubled += 1
                self.verdict.wrongs["stored again after it was deleted"] += 1
            seen.add(text)
        for entry_id in writers.deleted - self._deleted:
            self._of(entry_id).lost += 1
            self.verdict.wrongs["a deletion was acknowledged, but not stored"] += 1

    def read(self, reader: Reader) -> None:
        self.verdict.resets += reader.resets
        seen: set[str] = set()
        newest = order(reader.first)
        for entry_id in reader.ids:
            tally, place = self._of(entry_id), order(entry_id)
            tally.deliveries += 1
            if entry_id in seen:
                tally.doubled += 1
                self.verdict.wrongs["given twice"] += 1
            elif place <= newest:
                tally.disordered += 1
                self.verdict.wrongs["given out of order"] += 1
            seen.add(entry_id)
            newest = max(newest, place)
        first = order(reader.first)
        due = {entry_id for entry_id in self._ids if order(entry_id) > first}
        # Who comes late is not given what has been deleted by then.
        for entry_id in (due - seen) | (seen - due - self._deleted):
            self._of(entry_id).lost += 1
            self.verdict.wrongs[
                "not given" if entry_id in due else "given, but not stored any more"
            ] += 1
