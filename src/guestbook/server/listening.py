"""The sockets that the server listens on."""

from __future__ import annotations

import errno
import socket
from typing import Any

# On a machine without IPv6 (or IPv4) one of these is the reason.
_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to a host; `::` means all IPv4 and IPv6 addresses.

    IPv4 has a socket of its own, so that its clients' addresses look as usual (192.0.2.1). Raises
    OSError or UnicodeError.
    """
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    if address[0] != "::":
        return [_bind(family, address)]
    listeners: list[socket.socket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            # "" is all addresses of the family.
            listeners.append(_bind(family, ("", port)))
        except OSError as error:
            if error.errno not in _MISSING:
                raise
        else:
            # Use the same free port for both families.
            port = listeners[-1].getsockname()[1]
    return listeners


def _bind(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
