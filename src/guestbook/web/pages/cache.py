"""Responses that are rendered once and sent often."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Receive, Scope, Send

from guestbook.core import precondition_failed
from guestbook.web.pages.i18n import accepts_gzip

_MAX_CACHED = 64


class CachedResponse(Response):
    """A response in memory, for any number of requests.

    It is compressed if the request accepts that, and 304 if the client already has it.
    """

    def __init__(
        self, content: str | bytes, *, media_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(content, headers=headers, media_type=media_type)
        self._fields = headers
        self._digest = hashlib.sha256(self.body).hexdigest()[:32]
        # Compressed or not: the whole response, and the one without a body.
        self._variants: dict[bool, tuple[Response, Response]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET. Raises ProblemError 412."""
        request = Headers(scope=scope)
        is_gzipped = accepts_gzip(request.get("accept-encoding", ""))
        if is_gzipped not in self._variants:
            self._variants[is_gzipped] = self._variant(is_gzipped)
        whole, not_modified = self._variants[is_gzipped]
        wanted = request.get("if-match", "*")
        if wanted != "*" and whole.headers["etag"] not in re.split(r"[ \t]*,[ \t]*", wanted):
            raise precondition_failed()
        known = request.get("if-none-match", "")
        is_known = known == "*" or whole.headers["etag"] in known
        await (not_modified if is_known else whole)(scope, receive, send)

    def _variant(self, is_gzipped: bool) -> tuple[Response, Response]:
        body, headers = self.body, {**self._fields, "ETag": f'"{self._digest}"'}
        if is_gzipped:
            body = gzip.compress(body, compresslevel=6, mtime=0)
            headers |= {"Content-Encoding": "gzip", "ETag": f'"{self._digest}-gzip"'}
        whole = Response(body, headers=headers, media_type=self.media_type)
        return whole, NotModifiedResponse(whole.headers)


def page_response(
    content: str, language: str, vary: str = "", *, media_type: str = "text/html"
) -> CachedResponse:
    """Return the response with a page; `vary` names further headers on which it depends."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Language": language,
        "Vary": ", ".join(filter(None, ("Accept-Language, Accept-Encoding", vary))),
    }
    return CachedResponse(content, media_type=media_type, headers=headers)


class ResponseCache:
    """A cache of responses, which is emptied when `get_state` returns something else."""

    def __init__(self, get_state: Callable[[], object]) -> None:
        self._get_state = get_state
        self._state: object = None
        self._responses: dict[object, CachedResponse] = {}

    def get(self, key: object, make: Callable[[], CachedResponse]) -> CachedResponse:
        """Return the response for this key; call `make` if it is not cached."""
        state = self._get_state()
        # Clients choose a part of some keys, so limit their number.
        if state != self._state or len(self._responses) >= _MAX_CACHED:
            self._responses.clear()
            self._state = state
        if key not in self._responses:
            self._responses[key] = make()
        return self._responses[key]
