"""Make a title of a text for a list, such as a feed reader's."""

from __future__ import annotations

import re
import unicodedata

_MAX = 60
# Embeddings, overrides and isolates that are not closed would reach beyond the title.
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Besides marks, these continue a grapheme (Unicode Standard Annex #29): joiners, skin tones, tags,
# the later letters of a Hangul syllable, and a vowel of Thai and Lao.
_EXTENDING = re.compile(
    "[\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u1160-\u11ff\ud7b0-\ud7fb\u0e33\u0eb3]"
)
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_ZWJ = "\u200d"
_VIRAMA = 9  # its combining class; it joins the consonants around it


def without_direction(text: str) -> str:
    """Remove the characters that change the direction of what follows."""
    return _DIRECTION.sub("", text)


def title_of(text: str) -> str:
    """Return the text on one line, cut between two graphemes if it is long."""
    line = " ".join(without_direction(text).split())
    if len(line) <= _MAX:
        return line
    longest = _MAX - 1  # and an ellipsis
    ends = (end for end in range(longest, 0, -1) if _is_boundary(line, end))
    return f"{line[: next(ends, longest)].rstrip()}…"


def _is_boundary(line: str, index: int) -> bool:
    before, after = line[index - 1], line[index]
    if unicodedata.category(after).startswith("M") or _EXTENDING.match(after):
        return False
    if before == _ZWJ or unicodedata.combining(before) == _VIRAMA:
        return False
    # A flag is two letters.
    start = line[:index]
    flag_letters = index - len(start.rstrip(_FLAG_LETTERS))
    return after not in _FLAG_LETTERS or flag_letters % 2 == 0
