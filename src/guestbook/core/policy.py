"""Limits: how often an address may post, and how many messages are kept."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

_IPV6_SITE = 64


class PostRate(NamedTuple):
    """At most `posts` within any `seconds`, for each address."""

    posts: int
    seconds: int


class Retention(NamedTuple):
    """Keep the newest `messages`, and of these only the ones younger than `age_ms` (0: any age)."""

    messages: int
    age_ms: int


def rate_key(address: str) -> str:
    """Return the address for which posts are counted.

    That is the /64 of an IPv6 address, because one host can use any address in it.
    """
    address = unmapped(address)
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address, _IPV6_SITE), strict=False))
    except ValueError:
        return address


def unmapped(address: str) -> str:
    """Return an IPv4 address that is written as one of IPv6 (`::ffff:192.0.2.1`) as IPv4."""
    if not address.lower().startswith("::ffff:"):
        return address
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(ip.ipv4_mapped or ip)
