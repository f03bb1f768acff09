"""What a visitor sends, made fit to be stored."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

TEXT_MAX = 1000
AUTHOR_MAX = 60

_LINE_END = re.compile(r"\r\n?")


class DraftError(ValueError):
    """A draft that is not a message: `field` names the part at fault, `reason` says why.

    `code` says the same in a word, for whoever tells it in another language.
    """

    def __init__(self, field: str, code: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has no id yet. Made by `Draft.of`, it is within all bounds."""

    text: str
    author: str | None

    @classmethod
    def of(cls, text: object, author: object = None) -> Draft:
        """Normalises both parts; raises DraftError where that does not give a message."""
        clean_text = _clean("text", text, TEXT_MAX)
        if not clean_text:
            raise DraftError("text", "empty", "is empty: write at least one character")
        clean_author = None if author is None else _clean("author", author, AUTHOR_MAX)
        return cls(clean_text, clean_author or None)


def _clean(field: str, value: object, longest: int) -> str:
    if value is None:
        raise DraftError(field, "missing", "is missing")
    if not isinstance(value, str):
        raise DraftError(field, "not_a_string", "must be a string")
    clean = normalise(value)
    try:
        clean.encode()
    except UnicodeEncodeError:
        reason = "is not valid Unicode: it has half of a surrogate pair"
        raise DraftError(field, "not_unicode", reason) from None
    if len(clean) > longest:
        reason = f"is {len(clean)} characters long: at most {longest} are allowed"
        raise DraftError(field, "too_long", reason)
    return clean


def normalise(value: str) -> str:
    """Line ends become LF, other control characters (Unicode's Cc) go, the ends are trimmed."""
    lines = _LINE_END.sub("\n", value)
    kept = lines if lines.isprintable() else "".join(c for c in lines if _is_kept(c))
    return kept.strip()


def _is_kept(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) != "Cc"
