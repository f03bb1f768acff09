"""Messages as text for a terminal."""

from __future__ import annotations

import json
import unicodedata

from guestbook.core import Message

_INDENT = "    "
# What moves the cursor, colours, or turns the direction of writing; and halves of characters.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# They join letters and emoji, and do nothing else.
_JOINERS = "\u200c\u200d"


def escape_control(text: str) -> str:
    """The text with everything that a terminal might obey written out, such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else c.encode("unicode_escape").decode() for c in text)


def _is_harmless(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _HARMFUL


def as_json(message: Message) -> bytes:
    """The message as the API gives it, in ASCII, of which a terminal obeys nothing."""
    return json.dumps(json.loads(message.json())).encode()


def format_message(message: Message) -> str:
    """A message: a line with its id, time, pod and author, then its own lines, indented."""
    author = "" if message.author is None else f"  {escape_control(message.author)}"
    head = f"{message.id}  {message.posted_at}  {escape_control(message.pod)}{author}"
    return "\n".join([head, *(_INDENT + escape_control(line) for line in message.text.split("\n"))])
