"""The rules for `text` and `author` of a new message."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.core.messages import InvalidMessageError, NewMessage, normalise

# Weighted towards the characters that the rules are about.
awkward = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\r\n\t\0\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\xa0\u2028\u2029\u200b\ufeff a"),
    ),
    max_size=1200,
)


def expected(value: str) -> str:
    """Apply the rules in the plainest way."""
    ends = value.replace("\r\n", "\n").replace("\r", "\n")
    kept = [c for c in ends if c == "\n" or unicodedata.category(c) != "Cc"]
    return "".join(kept).strip()


@given(awkward)
def test_normalise_follows_the_rules(value: str) -> None:
    """Line ends become LF, other control characters are removed, then the text is trimmed."""
    assert normalise(value) == expected(value)


@given(awkward)
def test_normalise_is_idempotent(value: str) -> None:
    """A normalised text stays as it is."""
    assert normalise(normalise(value)) == normalise(value)


@given(awkward)
def test_normalised_text_has_no_control_character_but_lf(value: str) -> None:
    """No CR, no NUL, no escape sequence for a terminal."""
    controls = {c for c in normalise(value) if unicodedata.category(c) == "Cc"}
    assert controls <= {"\n"}


@given(awkward, st.none() | awkward)
def test_new_message_is_within_bounds_or_rejected(text: str, author: str | None) -> None:
    """1-1000 characters of text and 0-60 of author are accepted, and nothing else."""
    clean_text, clean_author = expected(text), expected(author or "")
    is_fit = 1 <= len(clean_text) <= 1000 and len(clean_author) <= 60
    try:
        new = NewMessage.parse(text, author)
    except InvalidMessageError:
        assert not is_fit
        return
    assert is_fit
    assert new == NewMessage(clean_text, clean_author or None)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("one\r\ntwo", "one\ntwo"),
        ("one\rtwo", "one\ntwo"),
        ("one\n\r\n\rtwo", "one\n\n\ntwo"),
        ("a\tb", "ab"),
        ("nul\0 and \x1b[31mred\x7f\x85", "nul and [31mred"),
        ("\0 \r\n trimmed \x01\t", "trimmed"),
        ("\u2028kept inside\u2028here\u2028", "kept inside\u2028here"),
        ("\u200bzero width\u200b", "\u200bzero width\u200b"),
        ("👩\u200d💻 é", "👩\u200d💻 é"),
        ("e\u0301", "e\u0301"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
    ],
)
def test_examples(typed: str, kept: str) -> None:
    """Typical texts."""
    assert NewMessage.parse(typed).text == kept


def test_length_is_counted_as_python_counts() -> None:
    """1000 characters outside the basic plane are 1000, counted after trimming."""
    assert len(NewMessage.parse("  " + "😀" * 1000 + "\n").text) == 1000
    with pytest.raises(InvalidMessageError, match=r"text.*1001.*1000"):
        NewMessage.parse("😀" * 1001)
    assert len(NewMessage.parse("x", " " + "😀" * 60).author or "") == 60
    with pytest.raises(InvalidMessageError, match=r"author.*61.*60"):
        NewMessage.parse("x", "😀" * 61)


@pytest.mark.parametrize("author", [None, "", "   ", "\0\r\n"])
def test_empty_author_is_none(author: str | None) -> None:
    """An author that is missing, empty or blank means anonymous."""
    assert NewMessage.parse("x", author).author is None


@pytest.mark.parametrize(
    ("text", "author", "field"),
    [
        (None, None, "text"),
        ("", None, "text"),
        (" \r\n\t\0", None, "text"),
        (17, None, "text"),
        (True, None, "text"),
        (["x"], None, "text"),
        ({"x": "y"}, None, "text"),
        (b"x", None, "text"),
        ("\ud800", None, "text"),
        ("x", 17, "author"),
        ("x", False, "author"),
        ("x", [], "author"),
        ("x", "\udfff", "author"),
        ("x", "y" * 61, "author"),
    ],
)
def test_error_names_the_field_and_the_reason(text: object, author: object, field: str) -> None:
    """The client learns which part is wrong, and why."""
    with pytest.raises(InvalidMessageError) as rejected:
        NewMessage.parse(text, author)
    assert rejected.value.field == field
    assert rejected.value.reason
    str(rejected.value).encode()


@given(st.text(st.characters(categories=["Cs", "Lu"]), min_size=1, max_size=20))
def test_half_a_surrogate_pair_is_rejected(text: str) -> None:
    """A text that has no UTF-8 form never reaches the store."""
    if any(unicodedata.category(c) == "Cs" for c in text):
        with pytest.raises(InvalidMessageError, match="surrogate"):
            NewMessage.parse(text)
    else:
        assert NewMessage.parse(text).text == text
