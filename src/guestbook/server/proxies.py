"""uvicorn's middleware for proxy headers, which also tells the application whom it trusts."""

from __future__ import annotations

from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class TrustedProxies(ProxyHeadersMiddleware):
    """Take client and scheme from a trusted proxy's headers, and tell whether it is trusted.

    The application cannot find out by itself, because the client's address replaces the proxy's:
    `guestbook.trusted` in the extensions of the scope is true if the other end of the connection
    is in FORWARDED_ALLOW_IPS.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            address = scope["client"][0] if scope["client"] else None
            scope["extensions"]["guestbook.trusted"] = address in self.trusted_hosts
        await super().__call__(scope, receive, send)
