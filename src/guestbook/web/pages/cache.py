"""What is sent as it lies in memory: made once, compressed once, and only when it is new."""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from guestbook.core import EventLog
from guestbook.web.pages.negotiation import takes_gzip

_REMEMBERED = 64

_Headers = list[tuple[bytes, bytes]]


class _Encoded(NamedTuple):
    etag: bytes
    headers: _Headers
    unchanged: _Headers
    body: bytes


class CachedResponse(Response):
    """A body with its type, answered with 200 or, to who has it, with 304.

    `headers` go out with both. `vary` names the request's headers that chose this response.
    """

    background = None

    def __init__(
        self, body: bytes, media_type: str, headers: Mapping[str, str], *, vary: str = ""
    ) -> None:
        self.body: bytes = body
        self._digest = hashlib.sha256(body).hexdigest()[:32]
        self._type = media_type
        varies = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"
        self._fields = {**headers, "Vary": varies}

    @functools.cached_property
    def _plain(self) -> _Encoded:
        return self._encoded(self.body, f'"{self._digest}"', {})

    @functools.cached_property
    def _gzipped(self) -> _Encoded:
        body = gzip.compress(self.body, compresslevel=6, mtime=0)
        return self._encoded(body, f'"{self._digest}-gzip"', {"Content-Encoding": "gzip"})

    def _encoded(self, body: bytes, etag: str, headers: Mapping[str, str]) -> _Encoded:
        unchanged = {**self._fields, "ETag": etag}
        format_message = {
            **unchanged,
            **headers,
            "Content-Type": self._type,
            "Content-Length": str(len(body)),
        }
        return _Encoded(etag.encode(), _raw(format_message), _raw(unchanged), body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a GET, as an ASGI application."""
        asked = dict(scope["headers"])
        is_gzip = takes_gzip(asked.get(b"accept-encoding", b""))
        encoded = self._gzipped if is_gzip else self._plain
        known = asked.get(b"if-none-match", b"")
        if known == b"*" or encoded.etag in known:
            status, headers, body = 304, encoded.unchanged, b""
        else:
            status, headers, body = 200, encoded.headers, encoded.body
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Current:
    """What is made of the log as it is now: each thing once, all forgotten when the log changes."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._state: object = None
        self._made: dict[object, CachedResponse] = {}

    def get(self, key: object, make: Callable[[], CachedResponse]) -> CachedResponse:
        """What `make` gives, unless it has been made before."""
        log = self._log
        state = (log.start, log.end, log.last, log.is_loaded)
        if state != self._state:
            self._made.clear()
            self._state = state
        found = self._made.get(key)
        if found is None:
            # A key may have something of a client's choice.
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            found = self._made[key] = make()
        return found


def _raw(headers: Mapping[str, str]) -> _Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
