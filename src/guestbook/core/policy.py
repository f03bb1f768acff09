"""Limits: how often an address may post, how many messages are kept, and for how long."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
"""The units of durations."""

_IPV6_SITE = 64
_DURATION = re.compile(r"(\d{1,5})(s|m|h|d)", re.ASCII)


class PostRate(NamedTuple):
    """At most `posts` within any `seconds`, for each address."""

    posts: int
    seconds: int


class Retention(NamedTuple):
    """Keep the newest `messages`, and of these only the ones younger than `age_ms` (0: any age)."""

    messages: int
    age_ms: int


def parse_duration(value: str) -> int:
    """Return the seconds of a duration such as 30m or 2d. Raises ValueError."""
    match = _DURATION.fullmatch(value)
    if match is None or not int(match[1]):
        raise ValueError("should look like 30d (also h, m, s)")
    return int(match[1]) * SECONDS[match[2]]


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
