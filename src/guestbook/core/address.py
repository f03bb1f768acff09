"""The address of a site: scheme, host and port, compared as browsers compare origins."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, Self

# The longer the address, the more expensive its QR code.
_LONGEST = 128
_HOST = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{0,5}))?", re.ASCII)
_URL = re.compile(r"(https?)://([^/]*)/?", re.ASCII | re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Host(NamedTuple):
    """A host, in lower case, and the port if one is given."""

    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what a `Host` header names, or None if that is not a host."""
        match = _HOST.fullmatch(text.strip().lower()) if len(text) <= _LONGEST else None
        if match is None:
            return None
        name, port = match[1], int(match[2]) if match[2] else None
        if name.startswith("["):
            try:
                name = f"[{ipaddress.IPv6Address(name[1:-1])}]"
            except ValueError:
                return None
        return cls(name, port) if port is None or 0 < port < 65_536 else None

    @property
    def authority(self) -> str:
        """Return `host` or `host:port`, without the port if it is a default one.

        TLS makes no difference: behind a proxy the scheme may be unknown, and browsers leave
        default ports out.
        """
        if self.port is None or self.port in _DEFAULT_PORTS.values():
            return self.name
        return f"{self.name}:{self.port}"


def serialise_origin(scheme: str, host: Host) -> str:
    """Return an address as browsers write origins: without the port that the scheme implies."""
    port = "" if host.port in (None, _DEFAULT_PORTS[scheme]) else f":{host.port}"
    return f"{scheme}://{host.name}{port}"


def parse_origin(text: str) -> tuple[str, Host] | None:
    """Return scheme and host of an address such as `https://guestbook.example.org`, else None."""
    match = _URL.fullmatch(text)
    host = Host.parse(match[2]) if match else None
    return (match[1].lower(), host) if match and host else None
