"""What may be posted: the contract's rules for `text` and `author`."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.core.messages import InvalidMessageError, NewMessage, normalise

# Weighted towards what the rules are about.
awkward = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\r\n\t\0\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\xa0\u2028\u2029\u200b\ufeff a"),
    ),
    max_size=1200,
)


def expected(value: str) -> str:
    """The contract, word for word and as slowly as it likes."""
    ends = value.replace("\r\n", "\n").replace("\r", "\n")
    kept = [c for c in ends if c == "\n" or unicodedata.category(c) != "Cc"]
    return "".join(kept).strip()


@given(awkward)
def test_normalising_is_what_the_contract_says(value: str) -> None:
    """Line ends become LF, other control characters go, then the ends are trimmed."""
    assert normalise(value) == expected(value)


@given(awkward)
def test_normalising_twice_changes_nothing_more(value: str) -> None:
    """What has been normalised is in its final form."""
    assert normalise(normalise(value)) == normalise(value)


@given(awkward)
def test_normalised_text_has_no_control_character_but_lf(value: str) -> None:
    """No CR, no NUL, no escape that a terminal would obey."""
    controls = {c for c in normalise(value) if unicodedata.category(c) == "Cc"}
    assert controls <= {"\n"}


@given(awkward, st.none() | awkward)
def test_draft_is_within_bounds_or_refused(text: str, author: str | None) -> None:
    """A draft has 1-1000 and 0-60 characters; whatever has not is refused, and nothing else."""
    clean_text, clean_author = expected(text), expected(author or "")
    is_fit = 1 <= len(clean_text) <= 1000 and len(clean_author) <= 60
    try:
        draft = NewMessage.of(text, author)
    except InvalidMessageError:
        assert not is_fit
        return
    assert is_fit
    assert draft == NewMessage(clean_text, clean_author or None)


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
    """Some texts as people send them."""
    assert NewMessage.of(typed).text == kept


def test_length_is_counted_as_python_counts() -> None:
    """1000 characters outside the basic plane are 1000, and count after trimming."""
    assert len(NewMessage.of("  " + "😀" * 1000 + "\n").text) == 1000
    with pytest.raises(InvalidMessageError, match=r"text.*1001.*1000"):
        NewMessage.of("😀" * 1001)
    assert len(NewMessage.of("x", " " + "😀" * 60).author or "") == 60
    with pytest.raises(InvalidMessageError, match=r"author.*61.*60"):
        NewMessage.of("x", "😀" * 61)


@pytest.mark.parametrize("author", [None, "", "   ", "\0\r\n"])
def test_no_name_is_null(author: str | None) -> None:
    """Who leaves the name empty, or sends only blanks, is anonymous."""
    assert NewMessage.of("x", author).author is None


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
def test_refusal_names_the_field_and_the_reason(text: object, author: object, field: str) -> None:
    """What is no message says which part is at fault and why."""
    with pytest.raises(InvalidMessageError) as refused:
        NewMessage.of(text, author)
    assert refused.value.field == field
    assert refused.value.reason
    str(refused.value).encode()


@given(st.text(st.characters(categories=["Cs", "Lu"]), min_size=1, max_size=20))
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    """What cannot be written as UTF-8 never reaches the store."""
    if any(unicodedata.category(c) == "Cs" for c in text):
        with pytest.raises(InvalidMessageError, match="surrogate"):
            NewMessage.of(text)
    else:
        assert NewMessage.of(text).text == text
