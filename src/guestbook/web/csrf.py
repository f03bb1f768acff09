"""Detect requests that the page of another site made a browser send.

These are the checks of Go's net/http.CrossOriginProtection: `Sec-Fetch-Site` if the browser sends
it (only over HTTPS and to localhost), else `Origin` against the requested host.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers


def is_cross_site(headers: Headers) -> bool:
    """Whether the browser's headers show that another site made it send the request."""
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    # A proxy may request another host than the browser did, and pass on the original one in
    # X-Forwarded-Host, which no page can set.
    hosts = (headers.get("host"), headers.get("x-forwarded-host"))
    try:
        return urlsplit(origin).netloc not in hosts
    except ValueError:
        return True
