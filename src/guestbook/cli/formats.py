"""The formats of an export: JSON lines to import again, CSV for spreadsheets, a book to print."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from guestbook import __version__
from guestbook.core import Message

_COLUMNS = ("id", "posted_at", "author", "text", "pod")
# A spreadsheet takes a cell that begins like this for a formula, which could send other cells to a
# stranger. One that splits cells at semicolons or tabs too, or ignores quotes, sees more of them.
# The full-width characters count in Japanese versions.
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=[ ]*[=+\-@＝＋－＠])")

Pages = AsyncIterator[list[Message]]


class Format(StrEnum):
    """A format of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    HTML = "html"

    @classmethod
    def of(cls, file: Path) -> Format:
        """Return the format that a file's name asks for. Raises ValueError."""
        suffix = file.suffix.lower().removeprefix(".")
        try:
            return cls({"": "jsonl", "htm": "html"}.get(suffix, suffix))
        except ValueError:
            raise ValueError(
                f"{file}: its name should end in .jsonl, .csv or .html, "
                "or --format say what to write (nothing is compressed)"
            ) from None


def encode(form: Format, pages: Pages, title: str) -> AsyncIterator[bytes]:
    """Yield the file, piece by piece, from pages of messages with the oldest first."""
    if form is Format.CSV:
        return _csv(pages)
    return _html(pages, title) if form is Format.HTML else _jsonl(pages)


async def _jsonl(pages: Pages) -> AsyncIterator[bytes]:
    """Write a line for each message, between two that show whether all are there."""
    yield json.dumps({"export": "guestbook", "version": __version__}).encode() + b"\n"
    count = 0
    async for messages in pages:
        yield b"".join(message.json() + b"\n" for message in messages)
        count += len(messages)
    yield json.dumps({"end": True, "messages": count}).encode() + b"\n"


async def _csv(pages: Pages) -> AsyncIterator[bytes]:
    """Write CSV as in RFC 4180, in UTF-8."""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    writer.writerow(_COLUMNS)
    async for messages in pages:
        for message in messages:
            texts = (message.author or "", message.text, message.pod)
            writer.writerow((str(message.id), message.posted_at, *map(_cell, texts)))
        yield rows.getvalue().encode()
        rows.seek(0)
        rows.truncate()
    yield rows.getvalue().encode()


def _cell(value: str) -> str:
    return _FORMULA.sub("'", value)


async def _html(pages: Pages, title: str) -> AsyncIterator[bytes]:
    from guestbook.web.pages.templates import environment  # noqa: PLC0415  # only the book needs Jinja2

    template = environment(is_async=True).get_template("book.html")
    async for part in template.generate_async(
        title=title, messages=_dated(pages), printed_on=_day(datetime.now(UTC))
    ):
        yield part.encode()


async def _dated(pages: Pages) -> AsyncIterator[tuple[Message, str]]:
    """Yield each message, with its day if it is the first of that day."""
    last = ""
    async for messages in pages:
        for message in messages:
            date = message.posted_at[:10]
            yield message, "" if date == last else _day(datetime.fromisoformat(date))
            last = date


def _day(at: datetime) -> str:
    return f"{at:%A}, {at.day} {at:%B} {at.year}"
