"""Taking messages out and putting them in: JSON lines, and the original application's list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable

from guestbook.draft import TEXT_MAX, Draft, DraftError, normalise
from guestbook.entry import ORIGIN, EntryId, Message
from guestbook.store import Store

_PAGE = 500
_LEGACY_POD = "legacy"


class TransferError(Exception):
    """What is to be imported cannot be; the text names the place."""


async def exported(store: Store) -> AsyncIterator[bytes]:
    """All messages, oldest first, each as a line of JSON."""
    reached: EntryId | None = ORIGIN
    while reached is not None:
        page = await store.newer(reached, _PAGE)
        reached = page.reached
        for entry in page.entries:
            if isinstance(entry, Message):
                yield entry.json() + b"\n"


async def restore(store: Store, lines: Iterable[bytes]) -> Counter[str]:
    """Puts exported messages back under their own ids.

    Counts those `added`, already `known`, and `too old` to be put before what is there.
    """
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            message = _parse(number, line)
            counts[await store.restore(message)] += 1
    return counts


def _parse(number: int, line: bytes) -> Message:
    try:
        value = json.loads(line)
        draft = Draft.of(value["text"], value.get("author"))
        return Message(EntryId.parse(value["id"]), draft.author, draft.text, str(value["pod"]))
    except DraftError as error:
        raise TransferError(f"line {number}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TransferError(
            f"line {number} is not a message as `guestbook export` writes it"
        ) from None


async def take_over(store: Store, list_key: str) -> Counter[str]:
    """Takes over the original application's list, from where an earlier run has come to.

    Counts items `added` and `empty`. What is longer than a message becomes several.
    """
    counts: Counter[str] = Counter()
    index = await store.taken_over(list_key)
    while items := await store.items(list_key, index, _PAGE):
        for item in items:
            texts = _pieces(item.decode(errors="replace"))
            is_new = await store.take_over(list_key, index, texts, pod=_LEGACY_POD)
            counts["added" if texts else "empty"] += is_new
            index += 1
    return counts


def _pieces(text: str) -> list[str]:
    clean = normalise(text)
    pieces = (clean[i : i + TEXT_MAX].strip() for i in range(0, len(clean), TEXT_MAX))
    return [piece for piece in pieces if piece]
