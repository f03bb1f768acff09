"""What moderators and operators decide, for all pods: one hash in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from guestbook.core import Control, EntryId, Network, Retention, ban_field, network_of
from guestbook.storage.store import ADDRESS, CONTROL

BANS_MAX = 1000
"""Each pod reads all bans once a second."""


class TooManyBansError(Exception):
    """As many networks are banned as may be."""

    def __init__(self) -> None:
        super().__init__(f"{BANS_MAX} networks are banned, as many as may be: end some bans")


class ControlStore:
    """Reads and changes what is decided; each change returns the new state."""

    def __init__(self, client: Redis, _retention: Retention | None = None) -> None:
        self._client: Any = client

    async def read(self) -> Control:
        """Return what is decided."""
        return Control.parse(await self._client.hgetall(CONTROL))

    async def change(self, fields: Mapping[str, str | None]) -> Control:
        """Change fields; None removes one."""
        absent = [name for name, value in fields.items() if value is None]
        present = {name: value for name, value in fields.items() if value is not None}
        if absent:
            await self._client.hdel(CONTROL, *absent)
        if present:
            await self._client.hset(CONTROL, mapping=present)
        return await self.read()

    async def ban(self, network: Network, seconds: int) -> Control:
        """Refuse posts from a network for some time from now. Raises TooManyBansError."""
        bans = (await self.read()).bans
        if network not in bans and len(bans) >= BANS_MAX:
            raise TooManyBansError
        now, _ = await self._client.time()
        return await self.change({ban_field(network): str((now + seconds) * 1000)})

    async def unban(self, network: Network) -> bool:
        """End a ban; return whether there was one."""
        return bool(await self._client.hdel(CONTROL, ban_field(network)))

    async def author_of(self, message: EntryId) -> Network | None:
        """Return the network that posted a message within the last 24 hours, if it is known."""
        address = await self._client.get(f"{ADDRESS}{message}")
        try:
            return network_of((address or b"").decode())
        except ValueError:  # a Unix socket has none
            return None
