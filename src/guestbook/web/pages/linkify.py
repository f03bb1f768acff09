"""Addresses in a text become links. The page's script does the same: a test compares them."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

# What JavaScript's \s has beyond Python's is U+FEFF.
_CANDIDATE = re.compile(r"""https?://[^\s\x00-\x1f\x7f-\x9f\ufeff<>"`]+""")
_LINK = Markup('<a href="{0}" rel="nofollow ugc noopener">{0}</a>')
_OPENING = {")": "(", "]": "[", "}": "{"}


def linkify(text: str) -> Markup:
    """The text as HTML: `http://` and `https://` addresses are links, all else is escaped."""
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
    """Leaves out what ends a sentence, and brackets that were opened before the address."""
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
