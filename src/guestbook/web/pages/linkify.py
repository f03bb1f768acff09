"""Turn addresses in a text into links. static/js does the same, and a test compares the two."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

# U+FEFF is white space in JavaScript's \s and not in Python's.
_CANDIDATE = re.compile(r"""https?://[^\s\x00-\x1f\x7f-\x9f\ufeff<>"`]+""")
_LINK = Markup('<a href="{0}" rel="nofollow ugc noopener">{0}</a>')
_OPENING = {")": "(", "]": "[", "}": "{"}


def linkify(text: str) -> Markup:
    """Return the text as HTML: `http://` and `https://` addresses as links, the rest escaped."""
    parts: list[Markup] = []
    position = 0
    for candidate in _CANDIDATE.finditer(text):
        url = _trim(candidate[0])
        if url.partition("//")[2].strip("/"):
            start = candidate.start()
            parts += (escape(text[position:start]), _LINK.format(url))
            position = start + len(url)
    parts.append(escape(text[position:]))
    return Markup("").join(parts)


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
