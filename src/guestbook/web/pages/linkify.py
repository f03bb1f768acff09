"""Turn addresses in a text into links. static/js does the same, and a test compares the two."""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

# Punctuation that is part of an address where a letter follows: hyphens, middle dots, and marks
# inside words of Armenian, Hebrew and Tibetan. In Chinese and Japanese, U+2019 is only a quote.
_IN_WORDS = (
    "\xb7\u055a-\u055f\u058a\u05be\u05f3\u05f4\u0f0b\u2010-\u2013\u2027\u301c\u30a0\u30fb\uff65"
)
_APOSTROPHE = "\u2019"
_JOINERS = "\u200c\u200d"
_IS_INSIDE = re.compile(f"[{_IN_WORDS}{_APOSTROPHE}{_JOINERS}]")
_CANDIDATE = re.compile(
    rf"""https?://(?:[^\s\x00-\x1f\x7f<>"`{_IN_WORDS}{_APOSTROPHE}]"""
    rf"|[{_IN_WORDS}](?=[^\W_])|{_APOSTROPHE}(?=[^\W_\u2e80-\uffff]))+"
)
_LINK = Markup('<a href="{0}" rel="nofollow ugc noopener" target="_blank">{0}</a>')
_OPENING = {")": "(", "]": "[", "}": "{"}


def linkify(text: str) -> Markup:
    """Return the text as HTML: `http://` and `https://` addresses as links, the rest escaped."""
    parts: list[Markup] = []
    position = 0
    for candidate in _CANDIDATE.finditer(_mask(text)):
        url = _trim(candidate[0])
        if url.partition("//")[2].strip("/"):
            start = candidate.start()
            parts += (escape(text[position:start]), _LINK.format(url))
            position = start + len(url)
    parts.append(escape(text[position:]))
    return Markup("").join(parts)


def _mask(text: str) -> str:
    """Replace the characters outside of ASCII at which an address ends by spaces.

    They are punctuation, white space and format controls. They end an address wherever they stand,
    because in many languages the next word follows without a space.
    """
    if text.isascii() or "://" not in text:
        return text
    return "".join(" " if _ends_address(character) else character for character in text)


def _ends_address(character: str) -> bool:
    if character.isascii() or _IS_INSIDE.match(character):
        return False
    category = unicodedata.category(character)
    return category[0] in "PZ" or category in ("Cc", "Cf")


def _trim(url: str) -> str:
    """Remove punctuation at the end, and closing brackets that were opened before the address."""
    surplus = {
        closing: url.count(closing) - url.count(opening) for closing, opening in _OPENING.items()
    }
    end = len(url)
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in ".,;:!?'":
            break
        end -= 1
    return url[:end]
