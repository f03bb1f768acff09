"""The first and the last bytes of every stream."""

from __future__ import annotations

import random

from guestbook.core import EntryId, sse

# How long a client waits before it reconnects: at random, so that they do not all come at once.
_RETRY_MS = (500, 3000)


def _retry() -> bytes:
    return sse.retry(int(random.uniform(*_RETRY_MS)))  # noqa: S311  # jitter


def hello(greeting: bytes, cursor: EntryId | None) -> bytes:
    """Return the event with which a stream begins: `greeting`, with `retry:` and the cursor.

    With the cursor as its `id:`, a client that is cut off before its first message misses nothing.
    """
    first = b"" if cursor is None else sse.last_id(str(cursor))
    return sse.comment("guestbook") + _retry() + first + greeting


def bye() -> bytes:
    """Return `retry:` and the event with which a stream ends that its server closes."""
    return _retry() + sse.event(b"{}", name="bye")
