"""What the Redis stream holds: messages and deletions, in one order, named by their ids."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from pydantic_core import to_json

# Redis stores both halves of an id as unsigned 64-bit numbers.
_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)
_HALF_MAX = 2**64 - 1
TEXT_MAX = 1000
AUTHOR_MAX = 60
_EPOCH = datetime(1970, 1, 1)  # in UTC, as the ids are
_DATETIME_MAX_MS = 253_402_300_799_999
# Many clients split a stream at every line end that Unicode knows, not only at CR and LF.
_LINE_ENDS = [(end.encode(), b"\\u%04x" % ord(end)) for end in "\u0085\u2028\u2029"]


_LINE_END = re.compile(r"\r\n?")


class EntryId(NamedTuple):
    """The id of a stream entry: the name, the order, the time and the cursor in one.

    Compares as two numbers, as Redis does; `str()` gives the canonical form.
    """

    ms: int
    seq: int

    @classmethod
    def parse(cls, value: str) -> Self:
        """Reads `ms-seq`, or `ms` alone (then `seq` is 0); ValueError for anything else."""
        match = _ID.fullmatch(value)
        if match is None:
            raise ValueError("is not a message id such as 1795416665955-0")
        ms, seq = int(match[1]), int(match[2] or 0)
        if max(ms, seq) > _HALF_MAX:
            raise ValueError("is larger than any message id")
        return cls(ms, seq)

    @classmethod
    def of(cls, raw: bytes) -> Self:
        """An id as Redis gives it: in its canonical form."""
        ms, _, seq = raw.partition(b"-")
        return cls(int(ms), int(seq))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @property
    def time(self) -> str:
        """RFC 3339 in UTC with milliseconds."""
        at = _EPOCH + timedelta(milliseconds=min(self.ms, _DATETIME_MAX_MS))
        return at.isoformat(timespec="milliseconds") + "Z"

    def before(self) -> EntryId:
        """The largest id smaller than this one (0-0 for itself)."""
        if self.seq:
            return EntryId(self.ms, self.seq - 1)
        return EntryId(self.ms - 1, _HALF_MAX) if self.ms else self

    def after(self) -> EntryId:
        """Return the smallest id larger than this one."""
        if self.seq < _HALF_MAX:
            return EntryId(self.ms, self.seq + 1)
        return EntryId(self.ms + 1, 0)


ORIGIN = EntryId(0, 0)


@dataclass(frozen=True, slots=True)
class Message:
    """What a visitor wrote, and which pod accepted it."""

    id: EntryId
    author: str | None
    text: str
    pod: str
    trace: str = field(default="", compare=False)
    """The trace (W3C `traceparent`) of the request that made it, where such are recorded."""

    @property
    def posted_at(self) -> str:
        """RFC 3339 in UTC with milliseconds, read from the id."""
        return self.id.time

    def json(self) -> bytes:
        """The message as the API and the stream give it: one line of UTF-8."""
        return _json(
            {
                "id": str(self.id),
                "author": self.author,
                "text": self.text,
                "posted_at": self.posted_at,
                "pod": self.pod,
            }
        )


@dataclass(frozen=True, slots=True)
class Deletion:
    """A message was taken away: `target` names it."""

    id: EntryId
    target: EntryId
    trace: str = field(default="", compare=False)

    def json(self) -> bytes:
        return _json({"id": str(self.target)})


Entry = Message | Deletion


def _json(value: object) -> bytes:
    text = to_json(value)
    if not text.isascii():
        for end, escaped in _LINE_ENDS:
            text = text.replace(end, escaped)
    return text


class InvalidMessageError(ValueError):
    """A draft that is not a message: `field` names the part at fault, `reason` says why.

    `code` says the same in a word, for whoever tells it in another language.
    """

    def __init__(self, field: str, code: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that has no id yet. Made by `NewMessage.of`, it is within all bounds."""

    text: str
    author: str | None

    @classmethod
    def of(cls, text: object, author: object = None) -> NewMessage:
        """Normalises both parts; raises InvalidMessageError where that does not give a message."""
        clean_text = _clean("text", text, TEXT_MAX)
        if not clean_text:
            raise InvalidMessageError("text", "empty", "is empty: write at least one character")
        clean_author = None if author is None else _clean("author", author, AUTHOR_MAX)
        return cls(clean_text, clean_author or None)


def _clean(field: str, value: object, longest: int) -> str:
    if value is None:
        raise InvalidMessageError(field, "missing", "is missing")
    if not isinstance(value, str):
        raise InvalidMessageError(field, "not_a_string", "must be a string")
    clean = normalise(value)
    try:
        clean.encode()
    except UnicodeEncodeError:
        reason = "is not valid Unicode: it has half of a surrogate pair"
        raise InvalidMessageError(field, "not_unicode", reason) from None
    if len(clean) > longest:
        reason = f"is {len(clean)} characters long: at most {longest} are allowed"
        raise InvalidMessageError(field, "too_long", reason)
    return clean


def normalise(value: str) -> str:
    """Line ends become LF, other control characters (Unicode's Cc) go, the ends are trimmed."""
    lines = _LINE_END.sub("\n", value)
    kept = lines if lines.isprintable() else "".join(c for c in lines if _is_kept(c))
    return kept.strip()


def _is_kept(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) != "Cc"
