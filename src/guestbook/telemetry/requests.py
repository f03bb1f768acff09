"""The id of a request, and its line in the log."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

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

    It is the id that the client or a proxy sent, else the trace id, else a random one.
    """
    new_id = f"{random.getrandbits(64):016x}"  # a name and no secret
    request_id = _sent_id(headers) or trace_id or new_id
    current_id.set(request_id)
    return request_id


def log_request(scope: Mapping[str, Any], status: int, seconds: float) -> None:
    """Log the answered request of an ASGI scope, and the `message_id` in its state."""
    client, state = scope["client"], scope["state"]
    posted = {"message": str(state["message_id"])} if "message_id" in state else {}
    logger.info(
        "request",
        method=scope["method"],
        # As it was sent: percent-encoded, so that a path cannot forge a line of the log.
        path=scope["raw_path"].decode("ascii", "backslashreplace"),
        status=status,
        ms=round(seconds * 1000, 2),
        address=client[0] if client else "",
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
