"""Messages and deletions as fields of stream entries."""

from __future__ import annotations

from collections.abc import Mapping

from guestbook.core import Deletion, Entry, EntryId, Message


def encode(author: str | None, text: str, pod: str, trace: str = "") -> list[str]:
    """Return a message as names and values of an entry's fields. The entry's id is its own."""
    fields = ["text", text, "pod", pod]
    if author is not None:
        fields += ["author", author]
    return fields + encode_trace(trace)


def encode_trace(trace: str) -> list[str]:
    """Return the field that takes a trace along, if there is one."""
    return ["trace", trace] if trace else []


def decode(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry | None:
    """Return the entry that Redis returned; None for one that this version does not know."""
    own_id = EntryId.from_bytes(entry_id)
    trace = fields.get(b"trace", b"").decode(errors="replace")
    if b"text" in fields:
        author = fields.get(b"author")
        return Message(
            own_id,
            None if author is None else author.decode(errors="replace"),
            fields[b"text"].decode(errors="replace"),
            fields.get(b"pod", b"").decode(errors="replace"),
            trace,
        )
    if b"deleted" in fields:
        try:
            target = EntryId.parse(fields[b"deleted"].decode(errors="replace"))
            return Deletion(own_id, target, trace)
        except ValueError:
            return None
    return None
