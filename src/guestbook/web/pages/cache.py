"""Responses that are made once and sent often."""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Callable
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Receive, Scope, Send

from guestbook.core import EventLog
from guestbook.web.pages.i18n import accepts_gzip

_MAX_CACHED = 64


class _Variant(NamedTuple):
    etag: str
    response: Response
    not_modified: Response


class CachedResponse(Response):
    """A page in memory, for any number of requests.

    Each of them is answered with a compressed body if it accepts one, and with 304 if the client
    has the page already. `vary` names the headers that the page depends on beside the language.
    """

    def __init__(self, content: str, *, media_type: str, language: str, vary: str = "") -> None:
        headers = {
            "Cache-Control": "no-cache",
            "Content-Language": language,
            "Vary": ", ".join(filter(None, ("Accept-Language, Accept-Encoding", vary))),
        }
        super().__init__(content, headers=headers, media_type=media_type)
        self._fields = headers
        self._digest = hashlib.sha256(self.body).hexdigest()[:32]

    @functools.cached_property
    def _plain(self) -> _Variant:
        return self._variant(bytes(self.body), f'"{self._digest}"')

    @functools.cached_property
    def _gzipped(self) -> _Variant:
        body = gzip.compress(self.body, compresslevel=6, mtime=0)
        return self._variant(body, f'"{self._digest}-gzip"', {"Content-Encoding": "gzip"})

    def _variant(self, body: bytes, etag: str, headers: dict[str, str] | None = None) -> _Variant:
        fields = {**self._fields, **(headers or {}), "ETag": etag}
        response = Response(body, headers=fields, media_type=self.media_type)
        return _Variant(etag, response, NotModifiedResponse(response.headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET."""
        request = Headers(scope=scope)
        is_gzip = accepts_gzip(request.get("accept-encoding", ""))
        variant = self._gzipped if is_gzip else self._plain
        known = request.get("if-none-match", "")
        is_known = known == "*" or variant.etag in known
        response = variant.not_modified if is_known else variant.response
        await response(scope, receive, send)


class ResponseCache:
    """Responses made from the log as it is now: the cache is emptied when the log changes."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._state: object = None
        self._responses: dict[object, CachedResponse] = {}

    def get(self, key: object, make: Callable[[], CachedResponse]) -> CachedResponse:
        """Return the response of this key, made by `make` if it is not there."""
        log = self._log
        state = (log.start, log.end, log.last, log.is_loaded)
        # Clients choose a part of some keys, so their number is bounded.
        if state != self._state or len(self._responses) >= _MAX_CACHED:
            self._responses.clear()
            self._state = state
        if key not in self._responses:
            self._responses[key] = make()
        return self._responses[key]
