"""What commands of the store return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from guestbook.core import ORIGIN, Entry, EntryId, Message


class Page(NamedTuple):
    """Some entries, and the last id that they reach; None where the stream has no more."""

    entries: list[Entry]
    reached: EntryId | None


class StreamHead(NamedTuple):
    """The newest id that the stream has ever had, and how many entries."""

    dataset_id: str
    """Identifies the data; empty before the first heartbeat."""
    last_id: EntryId
    entries_added: int

    @property
    def replaced_at(self) -> EntryId:
        """The id at which an operator replaced all messages."""
        return replaced_at(self.dataset_id)


def replaced_at(dataset_id: str) -> EntryId:
    """Return the id at which an operator replaced all messages, 0-0 if none ever did."""
    _, _, entry_id = dataset_id.partition("@")
    return EntryId.parse(entry_id) if entry_id else ORIGIN


class Stored(NamedTuple):
    """The result of a post; `is_new` is false where its key had stored the message before."""

    message: Message
    is_new: bool


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """Redis's clock, the identity and extent of its data, and the other processes."""

    now_ms: int
    dataset_id: str
    last_id: EntryId
    entries_added: int
    """How many entries were ever added to the stream."""
    peers: dict[str, tuple[int, dict[str, Any]]] | None
    """By process: the age in ms of its record, and the record. None: not asked for."""
