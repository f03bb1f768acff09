"""How often one address may post, and what counts as one address."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

_IPV6_SITE = 64


class PostRate(NamedTuple):
    """At most `posts` in any `seconds`."""

    posts: int
    seconds: int


def sender(address: str) -> str:
    """The address; of IPv6 only the site's part, of which a host can have any number."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, _IPV6_SITE), strict=False))
