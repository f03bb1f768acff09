"""The address under which a client reaches the guestbook, as its request has it."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import Scope

VARY = "X-Forwarded-Proto, X-Forwarded-Host"
"""The headers that the address depends on, beside the host."""

# The longer the address, the more expensive its QR code.
_LONGEST = 128
_HOST = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


def public_address(scope: Scope) -> str:
    """Return an address such as `https://guestbook.example.org`.

    It comes from the headers of a proxy, else from `Host`, else from the socket. A client may send
    anything there, but only that client is shown the result. What is no host is skipped.
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
