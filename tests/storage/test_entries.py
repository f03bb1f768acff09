"""Messages and deletions are written to stream entries and read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.core import Deletion, Edit, EntryId, Message
from guestbook.storage.entries import decode, encode, with_edit

halves = st.integers(0, 2**64 - 1)
ids = st.builds(EntryId, halves, halves)
texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.builds(Message, ids, st.none() | texts, texts, texts)


@given(messages)
def test_message_is_read_as_it_was_written(message: Message) -> None:
    """Another pod reads the same message from the fields that a pod stores."""
    flat = [part.encode() for part in encode(message.author, message.text, message.pod)]
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    assert decode(str(message.id).encode(), fields) == message


@given(ids, ids)
def test_deletion_names_its_target(own: EntryId, target: EntryId) -> None:
    """A deletion shows the id of the deleted message, not its own."""
    deletion = decode(str(own).encode(), {b"deleted": str(target).encode()})
    assert deletion == Deletion(own, target)
    assert json.loads(deletion.json()) == {"id": str(target)}


@given(ids, messages, st.lists(ids, max_size=3))
def test_edit_has_the_whole_message(
    own: EntryId, message: Message, replaced: list[EntryId]
) -> None:
    """An edit shows the message with its new words and when they were changed."""
    fields = {
        b"edited": str(message.id).encode(),
        b"body": message.text.encode(),
        b"pod": message.pod.encode(),
        b"replaces": ",".join(map(str, replaced)).encode(),
    }
    if message.author is not None:
        fields[b"author"] = message.author.encode()
    edited = replace(message, edited_at=own.time)
    assert decode(str(own).encode(), fields) == Edit(own, edited, tuple(replaced))


@given(messages, ids, ids, texts)
def test_message_has_the_words_of_its_newest_edit(
    message: Message, newest: EntryId, earlier: EntryId, text: str
) -> None:
    """All of them, and when they were changed; without an edit it stays as it is."""
    edited = with_edit(message, f"{newest},{earlier} {text}".encode())
    assert edited == replace(message, text=text, edited_at=newest.time)
    assert with_edit(message, None) == message


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"edited": b"1-0"},
        {b"edited": b"everything", b"body": b"words"},
        {b"edited": b"1-0", b"body": b"words", b"replaces": b"everything"},
        {b"deleted": b"everything"},
        {b"deleted": b"\xff"},
    ],
)
def test_entry_of_another_version_is_skipped(fields: dict[bytes, bytes]) -> None:
    """An entry that this version does not know is neither a message nor an error."""
    assert decode(b"1-0", fields) is None


@given(st.binary(), st.binary(), st.binary())
def test_bytes_that_are_not_utf8_still_make_a_message(
    text: bytes, author: bytes, pod: bytes
) -> None:
    """Bytes that another program wrote to the stream do not stop the reader."""
    message = decode(b"1-0", {b"text": text, b"author": author, b"pod": pod})
    assert isinstance(message, Message)
    assert json.loads(message.json())["text"] == text.decode(errors="replace")
