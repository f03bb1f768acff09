"""The id of a request, and its line in the log."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar

import structlog

REQUEST_ID = b"x-request-id"
"""The header that names a request, in both directions."""

current_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered: every line logged meanwhile has it."""

# A client's own id is written to the log and sent back, so only harmless characters are accepted.
_ID = re.compile(rb"[A-Za-z0-9._:/+=@~-]{1,64}")
# W3C Trace Context: version, trace id, parent id, flags.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

logger = structlog.get_logger(__name__)


def begin_request(headers: Iterable[tuple[bytes, bytes]], trace_id: str = "") -> str:
    """Return the id of a new request and make it the current one.

    It is the id that the client or a proxy sent, else that of the trace, else a random one.
    """
    new_id = f"{random.getrandbits(64):016x}"  # a name and no secret
    request_id = _sent_id(headers) or trace_id or new_id
    current_id.set(request_id)
    return request_id


def log_request(
    *,
    method: str,
    path: bytes,
    status: int,
    seconds: float,
    address: str,
    message_id: object = None,
) -> None:
    """Log an answered request; its id is the current one. `message_id`: what it posted."""
    posted = {} if message_id is None else {"message": str(message_id)}
    logger.info(
        "request",
        method=method,
        # As it was sent: percent-encoded, so that a path cannot forge a line of the log.
        path=path.decode("ascii", "backslashreplace"),
        status=status,
        ms=round(seconds * 1000, 2),
        address=address,
        **posted,
    )


def _sent_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id that a request's headers give it, or "" if none of them is usable."""
    traceparent = b""
    for name, value in headers:
        if name == REQUEST_ID:
            if _ID.fullmatch(value):
                return value.decode()
        elif name == b"traceparent":
            traceparent = value
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[1].decode() if match else ""
