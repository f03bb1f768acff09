"""Detect requests from other sites' pages.

These are the checks of Go's net/http.CrossOriginProtection: `Sec-Fetch-Site` if the browser sends
it (only over HTTPS and to localhost), else `Origin` against the guestbook's address.
"""

from __future__ import annotations

import structlog
from starlette.datastructures import Headers
from starlette.types import Scope

from guestbook.web.public_url import is_own_origin, public_address

logger = structlog.get_logger(__name__)


EXPOSED_HEADERS = ("Guestbook-Cursor", "Location", "Retry-After", "X-Request-ID")
"""Which headers of an answer a page of another site may read."""

_ALLOWED = "access-control-allow-origin"


def cors_headers(allowed: tuple[str, ...], headers: Headers) -> dict[str, str]:
    """Return the CORS headers for responses that bypass Starlette's middleware."""
    origin = headers.get("origin", "")
    vary = {"vary": "Origin"} if allowed and "*" not in allowed else {}
    if not origin or not {"*", origin} & {*allowed}:
        return vary
    return {
        _ALLOWED: origin if vary else "*",
        "access-control-expose-headers": ", ".join(EXPOSED_HEADERS),
        **vary,
    }


class CrossSiteCheck:
    """Detects requests from other sites' pages."""

    def __init__(self, public_url: str | None, allowed: tuple[str, ...] = ()) -> None:
        self._public_url = public_url
        self._allowed = allowed
        self._has_warned = False

    def __call__(self, scope: Scope) -> bool:
        """Return whether the headers show that another site's page made the request."""
        headers = Headers(scope=scope)
        if _ALLOWED in cors_headers(self._allowed, headers):
            return False
        fetch_site = headers.get("sec-fetch-site")
        if fetch_site is not None:
            return fetch_site not in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None or is_own_origin(scope, self._public_url, origin):
            return False
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "a post from another origin was refused; if that is the guestbook's own address, "
                "set GUESTBOOK_PUBLIC_URL to it, or let the proxy pass on Host",
                origin=origin[:200],
                known_as=public_address(scope, self._public_url),
            )
        return True
