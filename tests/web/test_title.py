"""Titles of messages in the feed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.web.pages.title import title_of

# Each is one grapheme.
GRAPHEMES = [
    "x",
    "é",
    "e\u0301",
    "o\u0302\u0323",
    "\U0001f1eb\U0001f1f7",
    "❤\ufe0f",
    "1\ufe0f\u20e3",
    "\U0001f44b\U0001f3fd",
    "\U0001f469\u200d\U0001f4bb",
    "\U0001f468\U0001f3fd\u200d\U0001f469\U0001f3fe\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u1112\u1161\u11ab",
    "\u0915\u094d\u0937\u093f",
    "\u0e01\u0e33",
    "葛\U000e0100",
]


@pytest.mark.parametrize("grapheme", GRAPHEMES)
def test_title_is_cut_between_graphemes(grapheme: str) -> None:
    """Whatever stands before, no grapheme is cut, and as many as there is room for are shown."""
    for before in range(12):
        start = "a" * before
        whole = (59 - before) // len(grapheme)
        assert title_of(start + grapheme * 61) == f"{start}{grapheme * whole}…"


def test_short_text_is_the_title() -> None:
    """On one line, as it is."""
    assert title_of("one\n two\t three") == "one two three"
    assert title_of("é" * 60) == "é" * 60
    assert title_of("é" * 61) == "é" * 59 + "…"
    assert title_of("a" * 58 + " " + "b" * 9) == "a" * 58 + "…"


def test_a_single_grapheme_that_is_too_long_is_cut() -> None:
    """A tower of accents has no place to be cut, and must not fill the list."""
    assert title_of("a" + "\u0301" * 900) == "a" + "\u0301" * 58 + "…"


@given(st.text(st.one_of(st.characters(), st.sampled_from("\u202a\u202e\u2066\u2068\u2069 ab"))))
def test_title_is_short_and_changes_no_direction(text: str) -> None:
    """Nothing reaches beyond the title, whether it was cut or not."""
    title = title_of(text)
    assert len(title) <= 60
    directions = {unicodedata.bidirectional(character) for character in title}
    assert directions.isdisjoint({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
