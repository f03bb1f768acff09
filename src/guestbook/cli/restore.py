"""Restore exported messages, or import the list of the original application."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from guestbook.core import (
    ORIGIN,
    TEXT_MAX,
    EntryId,
    InvalidMessageError,
    Message,
    NewMessage,
    is_held,
    normalise,
)
from guestbook.storage import Archive

_BATCH = 250
# The longest message takes 13 kB if each of its characters is written as two escapes.
_LINE_MAX = 64 * 1024
_DAY_MS = 24 * 3600 * 1000
_LEGACY_POD = "legacy"


class ImportFileError(Exception):
    """A file cannot be imported; the text names the file or the line."""


@dataclass(frozen=True, slots=True)
class _ExportMarker:
    """The first line of an export, or the last one, which counts the messages between them."""

    messages: int | None = None


async def restore(
    store: Archive, file: BinaryIO, on_read: Callable[[int], None], *, is_staged: bool = False
) -> Counter[str]:
    """Put exported messages back under their own ids, and count them by their outcome.

    The outcomes are those of `Archive.restore`, and `blank`: nothing is visible in the message.
    `incomplete` counts the exports in the file that lack messages or their last line.
    `on_read` gets the number of bytes that were read. Raises ImportFileError; then the messages
    before the line that it names are back, or staged.
    """
    counts: Counter[str] = Counter()
    for messages, size in _batches(file, counts):
        counts += await store.restore(messages, is_staged=is_staged)
        on_read(size)
    return counts


async def replace(store: Archive, file: BinaryIO, on_read: Callable[[int], None]) -> Counter[str]:
    """Put the exported messages of a file in the place of all others, at once.

    Besides the outcomes of `restore` counts `kept` and `lost`, of the messages posted meanwhile.
    Raises ImportFileError; then nothing was changed.
    """
    since = (await store.head()).last_id
    counts = await restore(store, file, on_read, is_staged=True)
    if counts["too old"]:
        raise ImportFileError("the messages are not in the order of their ids")
    if counts["incomplete"]:
        raise ImportFileError("the file is not a complete export: it was cut off")
    if not counts["added"]:
        raise ImportFileError("there is no message to import: see guestbook clear")
    counts["kept"], counts["lost"] = await store.replace(since)
    return counts


def _batches(file: BinaryIO, counts: Counter[str]) -> Iterator[tuple[list[Message], int]]:
    """Yield the file's messages in batches, each with its size in bytes."""
    latest = EntryId(time.time_ns() // 1_000_000 + _DAY_MS, 0)
    messages: list[Message] = []
    size = present = 0
    is_in_export = False
    line = b""
    try:
        for number, line in enumerate(_lines(file), start=1):
            size += len(line)
            if not line.strip():
                continue
            found = _parse(number, line, latest)
            if isinstance(found, _ExportMarker):
                counts["incomplete"] += is_in_export and found.messages != present
                is_in_export, present = found.messages is None, 0
            else:
                present += 1
                counts["blank"] += found is None
                messages += [found] if found else []
            if len(messages) == _BATCH:
                yield messages, size
                messages, size = [], 0
    except ImportFileError:
        yield messages, size
        # An incomplete last line means that the export was cut off.
        if not is_in_export or line.endswith(b"\n"):
            raise
        messages, size = [], 0
    if not line:
        raise ImportFileError("the file is empty")
    counts["incomplete"] += is_in_export
    yield messages, size


def _lines(file: BinaryIO) -> Iterator[bytes]:
    try:
        yield from iter(lambda: file.readline(_LINE_MAX), b"")
    except OSError as error:
        raise ImportFileError(f"{file.name}: {error.strerror}") from None


def _parse(number: int, line: bytes, latest: EntryId) -> Message | _ExportMarker | None:
    """Return a line's message, or None if it is one in which nothing is visible."""
    try:
        value = json.loads(line)
        if value.keys().isdisjoint({"id", "text"}):
            return _ExportMarker() if "export" in value else _ExportMarker(int(value["messages"]))
        new = NewMessage.parse(value["text"], value.get("author"))
        pod, edited_at = normalise(value["pod"]), value.get("edited_at")
        if edited_at is not None:
            at = datetime.strptime(edited_at, "%Y-%m-%dT%H:%M:%S.%fZ")
            edited_at = f"{at.isoformat(timespec='milliseconds')}Z"
        message = Message(
            EntryId.parse(value["id"]), new.author, new.text, pod, edited_at=edited_at
        )
        message.json()
    except InvalidMessageError as error:
        if error.code == "empty" and value["text"]:
            return None
        raise ImportFileError(f"line {number}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ImportFileError(
            f"line {number} is not a message as `guestbook export` writes it"
        ) from None
    # All later ids could then be of this form, and look like those of held messages.
    if is_held(message.id):
        raise ImportFileError(f"line {number}: the id {message.id} is of a message that waits")
    # A stream accepts no id below its newest: an id in the future would block all new messages.
    if not ORIGIN < message.id <= latest:
        raise ImportFileError(f"line {number}: the id {message.id} is not in the past")
    return message


async def import_legacy(
    store: Archive, list_key: str, on_read: Callable[[int], None]
) -> Counter[str]:
    """Import the original application's list, from where the last import of it ended.

    Counts items as `added` or `empty`. An item that is too long becomes several messages.
    """
    counts: Counter[str] = Counter()
    async for items in store.legacy_items(list_key):
        for index, item in items:
            texts = _pieces(item.decode(errors="replace"))
            is_new = await store.import_legacy(list_key, index, texts, pod=_LEGACY_POD)
            counts["added" if texts else "empty"] += is_new
        on_read(len(items))
    return counts


def _pieces(text: str) -> list[str]:
    clean = normalise(text)
    pieces = (clean[i : i + TEXT_MAX].strip() for i in range(0, len(clean), TEXT_MAX))
    return [piece for piece in pieces if piece]
