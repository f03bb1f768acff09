"""The ids of messages that wait for a moderator, by which every pod knows them."""

from __future__ import annotations

from pathlib import Path

from guestbook.core import HELD_SEQ, EntryId, is_held
from guestbook.storage.lua import load_script
from tests.support.valkey import DEBIAN_REDIS, Valkey

_KEYS = [f"{{guestbook}}:{name}" for name in ("held", "trimmed", "edits", "receipt:", "rate", "a:")]


async def test_posts_of_one_millisecond_have_ids_of_the_queue(tmp_path: Path) -> None:
    """Even if the clock of Redis 7.0 advances while the script runs, ids are of the queue."""
    # If Redis is not installed, use Valkey.
    binary = DEBIAN_REDIS if DEBIAN_REDIS.exists() else None
    with Valkey(tmp_path / "redis", "--appendonly", "no", binary=binary) as redis:
        async with redis.client() as client:
            sha = await client.script_load(load_script("post"))
            pipeline = client.pipeline(transaction=False)
            for number in range(20_000):
                keys = [key + str(number) if key.endswith("receipt:") else key for key in _KEYS]
                options = [10**6, 0, 60_000, 0, "memo", 0, 1000, HELD_SEQ, ""]
                pipeline.evalsha(sha, len(keys), *keys, *options, "text", "x")
            ids = [EntryId.parse(receipt.split()[0]) for _, receipt in await pipeline.execute()]
    assert [each for each in ids if not is_held(each)] == []
    assert ids == sorted(set(ids))
