"""docs/privacy.md lists everything that is kept about visitors."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Serve
from tests.support.valkey import redis_client
from tests.support.waiting import eventually

_PRIVACY = Path(__file__).parents[2] / "docs" / "privacy.md"
_DAY, _MINUTE = 24 * 3600, 60


async def test_redis_keeps_what_the_document_lists(serve: Serve, redis_url: str) -> None:
    """Each key is listed; an address is in the key of its rate, and gone with that."""
    server = await serve(GUESTBOOK_POST_RATE="20/4s", GUESTBOOK_ADMIN_TOKEN="token-of-privacy")
    headers = {"Idempotency-Key": "random", "Authorization": "Bearer token-of-privacy"}
    async with server.client(headers=headers) as http:
        posted = (await http.post("/messages", json={"text": "whisper", "author": "Ada"})).json()
        await http.post("/messages", data={"text": "form"})
        await http.delete(f"/messages/{posted['id']}")
    listed = re.findall(r"^\| `([^`]*)`", _PRIVACY.read_text(), re.MULTILINE)
    patterns = [re.escape(re.sub(r"…|\b[A-Z]+\b", "*", key)).replace(r"\*", ".+") for key in listed]
    # They have nothing of visitors, and are of all guestbooks.
    patterns += [re.escape("{guestbook}:history"), re.escape("{guestbook}:trimmed")]
    async with redis_client(redis_url) as redis:
        keys = await redis.keys("*")
        assert [key for key in keys if not any(re.fullmatch(p, key) for p in patterns)] == []
        assert 0 < await redis.ttl("{guestbook}:receipt:client:random") <= _DAY
        own = [key for key in keys if ":receipt:own:" in key]
        assert own
        for key in own:
            assert 0 < await redis.ttl(key) <= _MINUTE
            assert "form" not in await redis.get(key)
        assert 0 < await redis.pttl("{guestbook}:rate:127.0.0.1") <= 4000

        async def is_forgotten() -> bool:
            return not await redis.exists("{guestbook}:rate:127.0.0.1")

        await eventually(is_forgotten)
        entries = str(await redis.xrange("{guestbook}:events"))
        assert "whisper" not in entries
        assert "127.0.0.1" not in entries
    assert "whisper" not in server.lines()
    assert "Ada" not in server.lines()
