"""What moderators and operators decide, for all pods: one hash in Redis."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from guestbook.core import Control, EntryId, Moderation, Network, Retention, ban_field
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

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def read(self) -> Control:
        """Return what is decided."""
        return Control.parse(await self._client.hgetall(CONTROL))

    async def set_closed(self, words: str | None) -> Control:
        """Close the guestbook with these words; None opens it."""
        return await self._set("closed", words)

    async def set_moderation(self, moderation: Moderation | None) -> Control:
        """Switch moderation; None leaves it to the setting."""
        return await self._set("moderation", moderation)

    async def ban(self, network: Network, seconds: int) -> Control:
        """Refuse posts from a network for some time from now. Raises TooManyBansError."""
        bans = (await self.read()).bans
        if network not in bans and len(bans) >= BANS_MAX:
            raise TooManyBansError
        now, _ = await self._client.time()
        return await self._set(ban_field(network), str((now + seconds) * 1000))

    async def unban(self, network: Network) -> bool:
        """End a ban; return whether there was one."""
        return bool(await self._client.hdel(CONTROL, ban_field(network)))

    async def address(self, message: EntryId) -> str | None:
        """Return the address that posted a message within the last 24 hours, if it was kept."""
        address = await self._client.get(f"{ADDRESS}{message}")
        return None if address is None else address.decode()

    async def _set(self, field: str, value: str | None) -> Control:
        if value is None:
            await self._client.hdel(CONTROL, field)
        else:
            await self._client.hset(CONTROL, field, value)
        return await self.read()
