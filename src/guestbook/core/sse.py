"""The wire format of server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")

PING = b"event: ping\ndata: {}\n\n"


def event(data: bytes, *, id: str | None = None, name: str | None = None) -> bytes:
    """Frame an event; `data` may have several lines, `id` and `name` may not."""
    head = b"" if id is None else last_id(id)
    if name is not None:
        head += b"event: %s\n" % name.encode()
    return head + b"".join(b"data: %s\n" % line for line in _LINE_END.split(data)) + b"\n"


def last_id(id: str) -> bytes:
    """Frame the `id:` line of an event."""
    return b"id: %s\n" % id.encode()


def comment(text: str) -> bytes:
    """Frame a line that clients ignore; `text` has no line end."""
    return b": %s\n" % text.encode()


def retry(milliseconds: int) -> bytes:
    """Frame the time that a client is to wait before it reconnects."""
    return b"retry: %d\n" % milliseconds
