"""What is allowed and what is kept: posting rates, and how many messages."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

_IPV6_SITE = 64


class PostRate(NamedTuple):
    """At most `posts` in any `seconds`."""

    posts: int
    seconds: int


class Retention(NamedTuple):
    """Keep the newest `messages`, and of these only the ones younger than `age_ms` (0: any age)."""

    messages: int
    age_ms: int


def rate_key(address: str) -> str:
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
