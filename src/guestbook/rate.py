"""How often one address may post, counted in Redis across all pods."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from guestbook.connection import Client
from guestbook.settings import PostRate

_IPV6_SITE = 64


class _OwnClientStorage(RedisStorage):
    """The library's Redis storage over a client of ours, whichever kind it is."""

    STORAGE_SCHEME = ["guestbook"]  # noqa: RUF012  # the library's own way to name a storage

    def __init__(self, client: Client) -> None:
        self._client = client
        super().__init__("redis://", implementation="redispy", key_prefix="{guestbook}:rate")

    def configure_bridge(self) -> None:
        self.bridge.storage = self._client  # type: ignore[attr-defined]
        self.bridge.connection_getter = lambda _readonly: self._client  # type: ignore[attr-defined]


class RateLimit:
    """At most `rate.posts` in any `rate.seconds`, for each address."""

    def __init__(self, client: Client, rate: PostRate) -> None:
        self._item = RateLimitItemPerSecond(rate.posts, rate.seconds)
        self._limiter = MovingWindowRateLimiter(_OwnClientStorage(client))

    async def hit(self, address: str) -> int:
        """Counts a post. Gives 0, or in how many seconds the address may post again."""
        who = _who(address)
        if await self._limiter.hit(self._item, who):
            return 0
        window = await self._limiter.get_window_stats(self._item, who)
        return max(1, math.ceil(window.reset_time - time.time()))


def _who(address: str) -> str:
    """The address; of IPv6 only the site's part, of which a host can have any number."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, _IPV6_SITE), strict=False))
