"""Tells a browser's cross-site request from one of the guestbook's own pages.

The same checks as Go's net/http.CrossOriginProtection: `Sec-Fetch-Site` where the browser sends
it (only over HTTPS and to localhost), else `Origin` against the host that was asked for.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that another site made it send this request."""
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    # A proxy may ask for another host than the browser did, and say so in X-Forwarded-Host,
    # which no page can set.
    hosts = (headers.get("host"), headers.get("x-forwarded-host"))
    try:
        return urlsplit(origin).netloc not in hosts
    except ValueError:
        return True
