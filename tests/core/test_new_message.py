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


# Default_Ignorable_Code_Point of Unicode 17's DerivedCoreProperties.txt.
IGNORABLE = (
    "00AD 034F 061C 115F..1160 17B4..17B5 180B..180F 200B..200F 202A..202E 2060..206F 3164 "
    "FE00..FE0F FEFF FFA0 FFF0..FFF8 1BCA0..1BCA3 1D173..1D17A E0000..E0FFF"
)
# Interlinear annotations, the blank Braille pattern and the null notehead are as empty.
BLANK = "FFF9..FFFB 2800 1D159"


def characters(ranges: str) -> set[str]:
    """Return the characters in ranges as the Unicode Character Database writes them."""
    ends = [part.partition("..") for part in ranges.split()]
    return {chr(c) for a, _, b in ends for c in range(int(a, 16), int(b or a, 16) + 1)}


INVISIBLE = characters(IGNORABLE + " " + BLANK)


def expected(value: str) -> str:
    """Apply the rules in the plainest way."""
    ends = value.replace("\r\n", "\n")
    for end in "\r\v\f\x85":
        ends = ends.replace(end, "\n")
    kept = "".join(c for c in ends if c in "\t\n" or unicodedata.category(c) != "Cc").strip()
    return kept if any(not c.isspace() and c not in INVISIBLE for c in kept) else ""


@given(awkward)
def test_normalise_follows_the_rules(value: str) -> None:
    """Line ends become LF, other control characters are removed, then the text is trimmed."""
    assert normalise(value) == expected(value)


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
        ("Mon\tTue", "Mon\tTue"),
        ("one\vtwo\fthree\x85four\r\n\x0bfive", "one\ntwo\nthree\nfour\n\nfive"),
        ("nul\0 and \x1b[31mred\x7f\x9f \x1c", "nul and [31mred"),
        ("\0 \r\n trimmed \x01\t", "trimmed"),
        ("\u2028kept inside\u2028here\u2028", "kept inside\u2028here"),
        ("\u200bzero width\u200b", "\u200bzero width\u200b"),
        ("👩\u200d💻 é", "👩\u200d💻 é"),
        ("e\u0301", "e\u0301"),
        ("\u0301", "\u0301"),
        ("\u2800\u28ff", "\u2800\u28ff"),
        ("\u1100\u1160", "\u1100\u1160"),
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


@pytest.mark.parametrize("author", [None, "", "   ", "\0\r\n", "\u3164"])
def test_empty_author_is_none(author: str | None) -> None:
    """An author that is missing, empty or blank means anonymous."""
    assert NewMessage.parse("x", author).author is None


def test_what_nothing_is_visible_in_is_empty() -> None:
    """Each character that shows nothing, alone, twice and among spaces; as a text or a name."""
    for character in sorted(INVISIBLE):
        for typed in (character, character * 2, f" {character}\n\u3000{character} \ufe0f"):
            with pytest.raises(InvalidMessageError) as rejected:
                NewMessage.parse(typed)
            assert (rejected.value.field, rejected.value.code) == ("text", "empty")
            assert NewMessage.parse("x", typed).author is None
        assert NewMessage.parse(f"{character}x").text == f"{character}x"


@pytest.mark.parametrize(
    ("text", "author", "field"),
    [
        ("", None, "text"),
        (" \r\n\t\0", None, "text"),
        ("\ud800", None, "text"),
        ("x", "\udfff", "author"),
        ("x", "y" * 61, "author"),
    ],
)
def test_error_names_the_field_and_the_reason(text: str, author: str | None, field: str) -> None:
    """The client learns which part is wrong, and why."""
    with pytest.raises(InvalidMessageError) as rejected:
        NewMessage.parse(text, author)
    assert rejected.value.field == field
    assert rejected.value.detail
    str(rejected.value).encode()


@given(st.text(st.characters(categories=["Cs", "Lu"]), min_size=1, max_size=20))
def test_half_a_surrogate_pair_is_rejected(text: str) -> None:
    """A text that has no UTF-8 form never reaches the store."""
    if any(unicodedata.category(c) == "Cs" for c in text):
        with pytest.raises(InvalidMessageError, match="surrogate"):
            NewMessage.parse(text)
    else:
        assert NewMessage.parse(text).text == text
