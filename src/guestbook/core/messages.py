"""The entries of the stream, messages, edits and deletions, and their ids."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from pydantic_core import to_json

from guestbook.core.problems import ProblemError

TEXT_MAX = 1000
AUTHOR_MAX = 60

_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)
# Redis stores both halves of an id as unsigned 64-bit numbers.
_HALF_MAX = 2**64 - 1
_EPOCH = datetime(1970, 1, 1)  # in UTC, like the ids
_DATETIME_MAX_MS = 253_402_300_799_999
# Many clients split a stream at every line end of Unicode, not only at CR and LF.
_UNICODE_LINE_ENDS = [(end.encode(), b"\\u%04x" % ord(end)) for end in "\u0085\u2028\u2029"]
_LINE_END = re.compile(r"\r\n|[\r\v\f\x85]")
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f-\x9f]")
# Something visible: all but white space, Unicode's Default_Ignorable_Code_Point (in
# DerivedCoreProperties.txt: format controls, selectors, tags, the Hangul fillers), the blank
# Braille pattern, the marks of interlinear annotations and the null notehead.
_VISIBLE = re.compile(
    r"[^\s\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    r"\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class EntryId(NamedTuple):
    """The id of a stream entry: its name, its place in the order, its time, and a cursor.

    Ids compare as two numbers, like in Redis; `str()` returns the canonical form.
    """

    ms: int
    seq: int

    @classmethod
    def parse(cls, value: str) -> Self:
        """Parse `ms-seq`, or `ms` alone, which means `ms-0`. Raises ValueError."""
        match = _ID.fullmatch(value)
        if match is None:
            raise ValueError("is not a message id such as 1795416665955-0")
        ms, seq = int(match[1]), int(match[2] or 0)
        if max(ms, seq) > _HALF_MAX:
            raise ValueError("is larger than any message id")
        return cls(ms, seq)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Return the id that Redis sent, which is in canonical form."""
        ms, _, seq = raw.partition(b"-")
        return cls(int(ms), int(seq))

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @property
    def time(self) -> str:
        """The time of the entry: RFC 3339 in UTC with milliseconds."""
        at = _EPOCH + timedelta(milliseconds=min(self.ms, _DATETIME_MAX_MS))
        return at.isoformat(timespec="milliseconds") + "Z"

    def before(self) -> EntryId:
        """Return the largest id smaller than this one; 0-0 for itself."""
        if self.seq:
            return EntryId(self.ms, self.seq - 1)
        return EntryId(self.ms - 1, _HALF_MAX) if self.ms else self

    def after(self) -> EntryId:
        """Return the smallest id larger than this one."""
        if self.seq < _HALF_MAX:
            return EntryId(self.ms, self.seq + 1)
        return EntryId(self.ms + 1, 0)


ORIGIN = EntryId(0, 0)
LAST = EntryId(_HALF_MAX, _HALF_MAX)
"""No id is larger."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a visitor, and the pod that accepted it."""

    id: EntryId
    author: str | None
    text: str
    pod: str
    trace: str = field(default="", compare=False)
    """The W3C `traceparent` of the request that posted it; empty if it was not traced."""
    edited_at: str | None = None
    """When the author last changed the text; the form is that of `posted_at`."""

    @property
    def posted_at(self) -> str:
        """The time of the id: RFC 3339 in UTC with milliseconds."""
        return self.id.time

    def json(self) -> bytes:
        """Return the message as the API and the stream send it: one line of UTF-8."""
        edited = {} if self.edited_at is None else {"edited_at": self.edited_at}
        return _json(
            {
                "id": str(self.id),
                "author": self.author,
                "text": self.text,
                "posted_at": self.posted_at,
                "pod": self.pod,
                **edited,
            }
        )


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of the message `target`."""

    id: EntryId
    target: EntryId
    replaces: tuple[EntryId, ...] = ()
    """The message's edits, which are gone with it."""
    trace: str = field(default="", compare=False)

    def json(self) -> bytes:
        """Return the data of the `deleted` event: the id of the deleted message."""
        return _json({"id": str(self.target)})


@dataclass(frozen=True, slots=True)
class Edit:
    """The change of a message, and the message as it is since then."""

    id: EntryId
    message: Message
    replaces: tuple[EntryId, ...] = ()
    """The message's earlier edits, newest first; this one has taken their place."""
    trace: str = field(default="", compare=False)

    @property
    def target(self) -> EntryId:
        """The id of the message."""
        return self.message.id

    def json(self) -> bytes:
        """Return the data of the `edited` event: the message."""
        return self.message.json()


Change = Edit | Deletion
Entry = Message | Change


def _json(value: object) -> bytes:
    text = to_json(value)
    if not text.isascii():
        for end, escaped in _UNICODE_LINE_ENDS:
            text = text.replace(end, escaped)
    return text


class InvalidMessageError(ProblemError):
    """The text or the author of a new message breaks a rule.

    The page has a sentence for `code` in each language, with the names of `numbers` in braces.
    """

    def __init__(self, field: str, code: str, rule: str, **numbers: int) -> None:
        super().__init__(422, rule, field=field, code=code, numbers=numbers)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that is not stored yet. `parse` returns only valid ones."""

    text: str
    author: str | None

    @classmethod
    def parse(cls, text: str, author: str | None = None) -> NewMessage:
        """Normalise and validate both parts. Raises InvalidMessageError."""
        clean_text = _clean("text", text, TEXT_MAX)
        if not clean_text:
            raise InvalidMessageError("text", "empty", "is empty: write at least one character")
        clean_author = None if author is None else _clean("author", author, AUTHOR_MAX)
        return cls(clean_text, clean_author or None)


def _clean(field: str, value: str, max_length: int) -> str:
    clean = normalise(value)
    try:
        clean.encode()
    except UnicodeEncodeError:
        rule = "is not valid Unicode: it has half of a surrogate pair"
        raise InvalidMessageError(field, "not_unicode", rule) from None
    if len(clean) > max_length:
        rule = f"is {len(clean)} characters long: at most {max_length} are allowed"
        raise InvalidMessageError(field, "too_long", rule, n=len(clean), max=max_length)
    return clean


def normalise(value: str) -> str:
    """Make every line end LF, remove control characters other than tabs, and trim.

    A text without a visible character becomes empty. static/js/text.js does the same.
    """
    kept = _CONTROL.sub("", _LINE_END.sub("\n", value)).strip()
    return kept if _VISIBLE.search(kept) else ""
