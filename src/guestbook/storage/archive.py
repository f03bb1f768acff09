"""Messages in bulk: a backup put back, all of them replaced, the original application's list."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from guestbook.core import EntryId, Message, Retention
from guestbook.storage.keys import DATASET_ID, EDITS, EVENTS, TRIMMED
from guestbook.storage.lua import load_script
from guestbook.storage.moderation import ModerationStore

_STAGING = "{guestbook}:import:"
_IMPORTED_LEGACY = "{guestbook}:taken-over:"
_LEGACY_BATCH = 500

# Remove what an interrupted import has left behind.
_STAGING_MS = 10 * 60 * 1000


class Archive(ModerationStore):
    """The commands of the command line that the service does not need."""

    def __init__(self, client: Redis, retention: Retention) -> None:
        super().__init__(client, retention)
        self._restore = client.register_script(load_script("restore"))
        self._replace = client.register_script(load_script("replace"))
        self._import_legacy = client.register_script(load_script("import_legacy"))
        staging = _STAGING + secrets.token_hex(8)
        self._staging = [staging, f"{staging}:trimmed", f"{staging}:edits"]

    async def restore(self, messages: list[Message], *, is_staged: bool = False) -> Counter[str]:
        """Add some hundred exported messages under their own ids, and count the outcomes.

        Each is `added`, was `known`, is `too old` to be put before what is there, was `trimmed`
        as older than what is kept, or is `expired`: older than messages are to be kept. If they
        are staged nothing is changed before `replace`.
        """
        keys = self._staging if is_staged else [EVENTS, TRIMMED, EDITS]
        fields = [
            part
            for m in messages
            for part in (str(m.id), m.text, m.pod, m.author or "", m.edited_at or "")
        ]
        outcomes = await self._restore(keys=keys, args=[*self._retention, *fields])
        if is_staged:
            for key in keys:
                await self._client.pexpire(key, _STAGING_MS)
        return Counter(outcome.decode() for outcome in outcomes)

    async def replace(self, since: EntryId) -> tuple[int, int]:
        """Replace all messages at once by the staged ones and those newer than `since`.

        Returns how many of the newer ones were kept, and how many could not be.
        """
        kept, lost = await self._exchange(str(since))
        return int(kept), int(lost)

    async def clear(self) -> None:
        """Remove all messages at once. Ids do not go back."""
        await self._exchange("")

    async def _exchange(self, since: str) -> list[int]:
        keys = [EVENTS, TRIMMED, EDITS, DATASET_ID, *self._staging[:2]]
        exchanged: list[int] = await self._replace(keys=keys, args=[secrets.token_hex(8), since])
        return exchanged

    async def length(self, list_key: str) -> int:
        """Return the length of a list that belongs to another application."""
        return int(await self._client.llen(list_key))

    async def legacy_items(self, list_key: str) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield the items of such a list that have not been imported, each with its index."""
        start = int(await self._client.get(_IMPORTED_LEGACY + list_key) or 0)
        while items := await self._client.lrange(list_key, start, start + _LEGACY_BATCH - 1):
            yield list(enumerate(items, start))
            start += len(items)

    async def import_legacy(self, list_key: str, index: int, texts: list[str], *, pod: str) -> bool:
        """Store an item of a list, once, as one or several messages; False if it has been."""
        added = await self._import_legacy(
            keys=[EVENTS, TRIMMED, EDITS, _IMPORTED_LEGACY + list_key],
            args=[*self._retention, index, pod, *texts],
        )
        return bool(added)
