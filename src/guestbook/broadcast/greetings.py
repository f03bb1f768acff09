"""The first and the last bytes of every stream."""

from __future__ import annotations

import random

from guestbook.core import sse

# How long a client waits before it reconnects: at random, so that they do not all come at once.
_RETRY_MS = (500, 3000)


def _retry() -> bytes:
    return sse.retry(int(random.uniform(*_RETRY_MS)))  # noqa: S311  # jitter


def hello(greeting: bytes) -> bytes:
    """Return a comment, `retry:` and the event with which a stream begins."""
    return sse.comment("guestbook") + _retry() + b"\n" + greeting


def bye() -> bytes:
    """Return `retry:` and the event with which a stream ends that its server closes."""
    return _retry() + sse.event(b"{}", name="bye")
