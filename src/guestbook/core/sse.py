"""The wire format of server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

PING = b"event: ping\ndata: {}\n\n"


def event(data: bytes, *, id: str | None = None, name: str | None = None) -> bytes:
    """Frame an event; nothing of it has a line end."""
    head = b"" if id is None else last_id(id)
    if name is not None:
        head += b"event: %s\n" % name.encode()
    return b"%sdata: %s\n\n" % (head, data)


def last_id(id: str) -> bytes:
    """Frame the `id:` line of an event."""
    return b"id: %s\n" % id.encode()


def comment(text: str) -> bytes:
    """Frame a line that clients ignore; `text` has no line end."""
    return b": %s\n" % text.encode()


def retry(milliseconds: int) -> bytes:
    """Frame the time that a client is to wait before it reconnects."""
    return b"retry: %d\n" % milliseconds
