"""Checks of a request's head that RFC 9110 and 9112 require and uvicorn does not make."""

from __future__ import annotations

import re
from collections.abc import Iterable

import httptools

from guestbook.core import ProblemError

END = b"\r\n\r\n"

# RFC 9110, section 7.2: a name or an address, and a port.
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::\d*)?")

Headers = Iterable[tuple[bytes, bytes]]


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of all headers with this name (in lower case)."""
    return [value for each, value in headers if each == name]


def check(version: str, headers: Headers) -> None:
    """Raise ProblemError for an invalid head."""
    hosts = values(headers, b"host")
    if version not in ("1.1", "1.0"):
        raise ProblemError(400, "Only versions 1.1 and 1.0 of HTTP are supported.")
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise ProblemError(400, "A request has exactly one Host.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise ProblemError(400, "This Host is not valid.")
    if any(coding.lower() != b"chunked" for coding in values(headers, b"transfer-encoding")):
        raise ProblemError(501, "Only the transfer coding chunked is supported.")


def split_target(url: bytes) -> tuple[bytes, bytes]:
    """Return host and path of an absolute target (RFC 9112, section 3.2.2)."""
    target = httptools.parse_url(url)
    host = target.host + (b":%d" % target.port if target.port else b"")
    return host, (target.path or b"/") + (b"?" + target.query if target.query else b"")


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Return the head without its request to upgrade to another protocol."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            kept = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
            lines.append(b"connection:" + b",".join(kept))
        elif name != b"upgrade":
            lines.append(b"%s:%s" % (name, value))
    return b"\r\n".join(lines) + END
