"""The results of the store's commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pydantic_core import from_json

from guestbook.core import ORIGIN, Control, Entry, EntryId, Message
from guestbook.storage.entries import decode


class EntryPage(NamedTuple):
    """Some entries, and the last id that they reach; None where the stream has no more."""

    entries: list[Entry]
    reached: EntryId | None

    @property
    def messages(self) -> list[Message]:
        """The messages among the entries."""
        return [entry for entry in self.entries if isinstance(entry, Message)]

    @classmethod
    def parse(cls, raw: list[tuple[bytes, dict[bytes, bytes] | None]]) -> Self:
        """Parse what Redis returned, without entries that this version does not know."""
        decoded = (decode(entry_id, fields or {}) for entry_id, fields in raw)
        entries = [entry for entry in decoded if entry is not None]
        return cls(entries, EntryId.from_bytes(raw[-1][0]) if raw else None)


class StreamHead(NamedTuple):
    """The newest id that the stream has ever had, and how many entries."""

    dataset_id: str
    """Identifies the data; empty before the first heartbeat."""
    last_id: EntryId
    entries_added: int


def replaced_at(dataset_id: str) -> EntryId:
    """Return the id at which all messages were replaced, 0-0 if they never were."""
    _, _, entry_id = dataset_id.partition("@")
    return EntryId.parse(entry_id) if entry_id else ORIGIN


def parse_receipt(receipt: bytes) -> tuple[EntryId, tuple[str | None, str, str] | None]:
    """Return the id of what was posted, and author, text and pod if a client has the key."""
    entry_id, _, memo = receipt.partition(b" ")
    return EntryId.from_bytes(entry_id), tuple(from_json(memo)) if memo else None


class Stored(NamedTuple):
    """The result of a post."""

    message: Message
    is_new: bool
    """False where its key had stored the message before."""
    is_held: bool
    """Whether it waits for a moderator."""


class Decision(NamedTuple):
    """The decision about a held message."""

    id: EntryId
    """The id of the message in the stream; 0-0 if it was not approved."""
    message: Message | None
    """As it was held; None where a refusal is repeated."""
    is_new: bool
    """False where the decision is repeated."""


class HeldState(NamedTuple):
    """The number of held messages, the oldest one's id, and how many were ever held."""

    waiting: int = 0
    oldest: EntryId | None = None
    added: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """Redis's clock, where the stream ends, the other processes, and what moderators do."""

    now_ms: int
    head: StreamHead
    peers: dict[str, tuple[int, dict[str, Any]]]
    """By process: the age in ms of its record, and the record. Empty: not asked for."""
    control: Control
    held: HeldState

    @classmethod
    def parse(cls, answer: list[Any]) -> HeartbeatReply:
        """Parse the answer of the script."""
        now, named, last, added, flat, control, (waiting, oldest, ever) = answer
        peers = {}
        for name, value in _pairs(flat):
            at, _, text = value.decode().partition(" ")
            peers[name.decode()] = (int(now) - int(at), json.loads(text))
        return cls(
            int(now),
            StreamHead(named.decode(), EntryId.from_bytes(last), int(added)),
            peers,
            Control.parse(dict(_pairs(control))),
            HeldState(int(waiting), EntryId.from_bytes(oldest) if waiting else None, int(ever)),
        )


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
