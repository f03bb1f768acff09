"""Ids, and messages as JSON."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guestbook.core.messages import ORIGIN, EntryId, Message

HALF = 2**64 - 1

halves = st.integers(0, HALF)
ids = st.builds(EntryId, halves, halves)
texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.builds(Message, ids, st.none() | texts, texts, texts)

NEWEST_DATE_MS = 253_402_300_799_999


@given(ids)
def test_id_survives_its_text(entry_id: EntryId) -> None:
    """Parsing the text of an id returns the id, and the text is the form that Redis uses."""
    assert EntryId.from_bytes(str(entry_id).encode()) == entry_id
    assert EntryId.parse(str(entry_id)) == entry_id
    assert str(entry_id) == f"{entry_id.ms}-{entry_id.seq}"


@given(halves)
def test_id_without_second_number_has_zero(ms: int) -> None:
    """`ms` alone means `ms-0`, like in Redis."""
    assert EntryId.parse(str(ms)) == (ms, 0)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "-",
        "+",
        "$",
        "1-",
        "-1",
        "1-2-3",
        "1--2",
        " 1-2",
        "1-2\n",
        "1_000-0",
        "1.5-0",
        "a-b",
        "0x10-0",
        "١-٢",
        "²-0",
        "+1-0",
        f"{HALF + 1}-0",
        f"0-{HALF + 1}",
        "9" * 5000,
    ],
)
def test_other_text_is_no_id(written: str) -> None:
    """A text that Redis would reject or read differently is rejected."""
    with pytest.raises(ValueError, match=r"message id"):
        EntryId.parse(written)


def test_ids_compare_as_numbers() -> None:
    """10-0 comes after 9-0, and 1-10 after 1-9."""
    assert EntryId.parse("9-0") < EntryId.parse("10-0")
    assert EntryId.parse("1-9") < EntryId.parse("1-10")
    assert EntryId.parse("007-0") == EntryId.parse("7-0")


@given(ids.filter(lambda entry_id: entry_id != ORIGIN))
@example(EntryId(7, HALF))
def test_before_and_after_are_the_neighbours(entry_id: EntryId) -> None:
    """There is no id between an id and the one before or after it."""

    def number(any_id: EntryId) -> int:
        return any_id.ms * 2**64 + any_id.seq

    assert number(entry_id.before()) == number(entry_id) - 1
    assert number(entry_id.after()) == number(entry_id) + 1


def test_nothing_is_before_the_origin() -> None:
    """0-0 is the smallest id."""
    assert ORIGIN.before() == ORIGIN


def test_time_is_utc_with_milliseconds() -> None:
    """The milliseconds are there even if they are 0, and the zone is a Z."""
    assert (
        Message(EntryId(1795416665955, 0), None, "…", "p").posted_at == "2026-11-23T06:51:05.955Z"
    )
    assert (
        Message(EntryId(1795416665000, 0), None, "…", "p").posted_at == "2026-11-23T06:51:05.000Z"
    )


@given(st.integers(0, NEWEST_DATE_MS))
def test_time_is_the_id_to_the_millisecond(ms: int) -> None:
    """`posted_at` is the first half of the id exactly, up to the year 9999."""
    stamp = Message(EntryId(ms, 0), None, "x", "p").posted_at
    assert datetime.fromisoformat(stamp) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        milliseconds=ms
    )


@given(messages)
def test_any_id_has_a_time(message: Message) -> None:
    """An id beyond the year 9999, which another program may have written, breaks nothing."""
    assert datetime.fromisoformat(message.posted_at).tzinfo == UTC


@given(messages)
def test_message_as_json_has_five_members(message: Message) -> None:
    """A message has the API's five members, in one line of UTF-8, for any text."""
    assert json.loads(message.json().decode()) == {
        "id": str(message.id),
        "author": message.author,
        "text": message.text,
        "posted_at": message.posted_at,
        "pod": message.pod,
    }
    assert len(message.json().decode().splitlines()) == 1
    edited = dataclasses.replace(message, edited_at="2026-11-23T06:51:05.955Z")
    assert json.loads(edited.json()) == json.loads(message.json()) | {"edited_at": edited.edited_at}
