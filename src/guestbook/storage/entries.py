"""Messages, edits and deletions as fields of stream entries, in which edits have other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from guestbook.core import Deletion, Edit, Entry, EntryId, Message


def encode(author: str | None, text: str, pod: str, trace: str = "") -> list[str]:
    """Return a message as names and values of an entry's fields. The entry's id is its own."""
    fields = ["text", text, "pod", pod]
    if author is not None:
        fields += ["author", author]
    return fields + encode_trace(trace)


def encode_trace(trace: str) -> list[str]:
    """Return the field for a trace, if there is one."""
    return ["trace", trace] if trace else []


def decode(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry | None:
    """Decode an entry; None for one that this version does not know."""
    own_id = EntryId.from_bytes(entry_id)
    values = {name: value.decode(errors="replace") for name, value in fields.items()}
    trace = values.get(b"trace", "")
    author, pod = values.get(b"author"), values.get(b"pod", "")
    if b"text" in values:
        edited_at = values.get(b"edited_at")
        return Message(own_id, author, values[b"text"], pod, trace, edited_at)
    try:
        replaces = tuple(map(EntryId.parse, filter(None, values.get(b"replaces", "").split(","))))
        if b"edited" in values:
            target = EntryId.parse(values[b"edited"])
            message = Message(target, author, values[b"body"], pod, edited_at=own_id.time)
            return Edit(own_id, message, replaces, trace)
        return Deletion(own_id, EntryId.parse(values[b"deleted"]), replaces, trace)
    except (KeyError, ValueError):
        return None


def with_edit(message: Message, known: bytes | None) -> Message:
    """Return the message with the text of its newest edit; `known` begins with that edit's id."""
    if known is None:
        return message
    ids, _, text = known.decode(errors="replace").partition(" ")
    edited_at = EntryId.parse(ids.partition(",")[0]).time
    return replace(message, text=text, edited_at=edited_at)
