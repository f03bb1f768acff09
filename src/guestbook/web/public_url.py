"""The address at which the outside reaches the guestbook, as a request tells it."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import Scope

VARY = "X-Forwarded-Proto, X-Forwarded-Host"
"""Beside the host, the headers that an address depends on."""

# A QR code costs the more the longer the address is.
_LONGEST = 128
_HOST = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


def public_address(scope: Scope) -> str:
    """Such as `https://guestbook.example.org`: from what a proxy says, else from `Host`.

    A client may write anything there, and it is shown to nobody but that client. What is no host
    gives way to the next best, at last to the socket's own address.
    """
    headers = Headers(scope=scope)
    scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    if scheme not in ("http", "https"):
        scheme = scope["scheme"]
    for name in ("x-forwarded-host", "host"):
        host = headers.get(name, "").partition(",")[0].strip()
        if len(host) <= _LONGEST and _HOST.fullmatch(host):
            return f"{scheme}://{host.lower()}"
    own, port = scope.get("server") or ("localhost", None)
    host = f"[{own}]" if ":" in own else own
    return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"
