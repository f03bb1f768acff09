"""Taking messages out and putting them in: exported ones, and the original application's list."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO

from guestbook.core import (
    ORIGIN,
    TEXT_MAX,
    EntryId,
    InvalidMessageError,
    Message,
    NewMessage,
    normalise,
)
from guestbook.storage import Store

_PAGE = 500
_BATCH = 250
# The longest message, each character of it as two escapes, has 13 kB.
_LINE_MAX = 64 * 1024
_DAY_MS = 24 * 3600 * 1000
_LEGACY_POD = "legacy"


class TransferError(Exception):
    """What is to be imported cannot be; the text names the place."""


async def exported(store: Store) -> AsyncIterator[list[Message]]:
    """All messages, oldest first, some at a time."""
    reached: EntryId | None = ORIGIN
    while reached is not None:
        page = await store.newer(reached, _PAGE)
        reached = page.reached
        yield [entry for entry in page.entries if isinstance(entry, Message)]


async def newest(store: Store, limit: int, before: EntryId | None) -> AsyncIterator[Message]:
    """Up to `limit` messages older than `before` (None: the newest), newest first."""
    while limit:
        page = await store.older(before, min(limit, _PAGE))
        for entry in page.entries:
            if isinstance(entry, Message):
                yield entry
                limit -= 1
        if page.reached is None:
            return
        before = page.reached


async def restore(store: Store, file: BinaryIO, on_read: Callable[[int], None]) -> Counter[str]:
    """Puts exported messages back under their own ids; `on_read` gets how many bytes were read.

    Counts them by what became of them, as `Store.restore` does. Raises TransferError; then what
    stood before the place that it names has been put back.
    """
    counts: Counter[str] = Counter()
    for messages, size in _batches(file):
        counts += await store.restore(messages)
        on_read(size)
    return counts


def _batches(file: BinaryIO) -> Iterator[tuple[list[Message], int]]:
    """The file's messages, some at a time, and from how many bytes they were read."""
    latest = EntryId(time.time_ns() // 1_000_000 + _DAY_MS, 0)
    messages: list[Message] = []
    size = 0
    try:
        for number, line in enumerate(_lines(file), start=1):
            size += len(line)
            if line.strip():
                messages.append(_parse(number, line, latest))
            if len(messages) == _BATCH:
                yield messages, size
                messages, size = [], 0
    except TransferError:
        yield messages, size
        raise
    yield messages, size


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.readline(_LINE_MAX), b"")


def _parse(number: int, line: bytes, latest: EntryId) -> Message:
    try:
        value = json.loads(line)
        draft = NewMessage.of(value["text"], value.get("author"))
        message = Message(
            EntryId.parse(value["id"]), draft.author, draft.text, normalise(value["pod"])
        )
        message.json()
    except InvalidMessageError as error:
        raise TransferError(f"line {number}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TransferError(
            f"line {number} is not a message as `guestbook export` writes it"
        ) from None
    # The stream takes no id below its newest: one from the future would keep out all others.
    if not ORIGIN < message.id <= latest:
        raise TransferError(f"line {number}: the id {message.id} is not of the past")
    return message


async def import_legacy(
    store: Store, list_key: str, on_taken: Callable[[int], None]
) -> Counter[str]:
    """Takes over the original application's list, from where an earlier run has come to.

    Counts items `added` and `empty`. What is longer than a message becomes several.
    """
    counts: Counter[str] = Counter()
    index = await store.imported_legacy(list_key)
    while items := await store.items(list_key, index, _PAGE):
        for item in items:
            texts = _pieces(item.decode(errors="replace"))
            is_new = await store.import_legacy(list_key, index, texts, pod=_LEGACY_POD)
            counts["added" if texts else "empty"] += is_new
            index += 1
        on_taken(len(items))
    return counts


def _pieces(text: str) -> list[str]:
    clean = normalise(text)
    pieces = (clean[i : i + TEXT_MAX].strip() for i in range(0, len(clean), TEXT_MAX))
    return [piece for piece in pieces if piece]
