"""Every kind of Redis that REDIS_URL can name: post, stream, delete and count on each.

The kinds run side by side, each with a server of its own; each test awaits one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import (
    SentinelServer,
    Server,
    Valkey,
    free_port,
    join_cluster,
    side_by_side,
)
from tests.stream import EventStream

_EVENTS = "{guestbook}:events"
_TOKEN = "let me delete"
_PASSWORD = "p@ss/w:rd%"
_QUOTED = "p%40ss%2Fw%3Ard%25"
_DEBIAN_REDIS = Path("/usr/bin/redis-server")


def _server(folder: Path, redis: str) -> Server:
    return Server(
        folder / "server.log",
        redis,
        GUESTBOOK_ADMIN_TOKEN=_TOKEN,
        GUESTBOOK_POST_RATE="4/60s",
    )


async def _begin(server: Server, begin: asyncio.Barrier) -> None:
    """Starts the server and waits until all are ready: starting takes the processor."""
    await server.start().ready(within=60)
    await begin.wait()


async def _works(server: Server) -> None:
    """Posting, streaming, replay, deletion and the rate of posts work, without a warning."""
    auth = {"Authorization": f"Bearer {_TOKEN}"}
    async with httpx.AsyncClient(base_url=server.url, timeout=10, verify=False) as http:
        async with EventStream(server.url) as stream:
            await stream.until("pods")
            posted = []
            for number in range(3):
                answer = await http.post("/messages", json={"text": f"message {number}"})
                assert answer.status_code == 201, answer.text
                posted.append(answer.json())
            assert [event.data for event in await stream.entries(3)] == posted

            # A key that is used again gives the same message.
            key = {"Idempotency-Key": "once"}
            once = await http.post("/messages", json={"text": "once"}, headers=key)
            assert (await stream.entries(1))[0].data == once.json()
            again = await http.post("/messages", json={"text": "once"}, headers=key)
            assert again.json() == once.json()

            refused = await http.post("/messages", json={"text": "one too many"})
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60

            target = posted[1]["id"]
            assert (await http.delete(f"/messages/{target}", headers=auth)).status_code == 204
            assert (await http.delete(f"/messages/{target}", headers=auth)).status_code == 404
            deleted = (await stream.entries(1))[0]
            assert (deleted.name, deleted.data) == ("deleted", {"id": target})
        async with EventStream(server.url, last_event_id=posted[0]["id"]) as stream:
            events = await stream.entries(3)
            assert [event.id for event in events] == [
                posted[2]["id"],
                once.json()["id"],
                deleted.id,
            ]
        listed = (await http.get("/messages")).json()["messages"]
        assert [message["text"] for message in listed] == ["once", "message 2", "message 0"]
    assert '"level": "warning"' not in server.lines()
    assert '"level": "error"' not in server.lines()
    assert _PASSWORD not in server.lines()
    assert _QUOTED not in server.lines()


# The kinds


async def _with_password(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey", "--requirepass", _PASSWORD).start()
    server = _server(folder, f"redis://:{_QUOTED}@{valkey.address}")
    try:
        await _begin(server, begin)
        await _works(server)
    finally:
        server.stop()
        valkey.kill()


async def _with_user_and_database(folder: Path, begin: asyncio.Barrier) -> None:
    rules = ["on", f">{_PASSWORD}", "~{guestbook}:*", "&*", "+@all"]
    valkey = Valkey(folder / "valkey", "--user", "ada", *rules, "--user", "default", "off").start()
    server = _server(folder, f"redis://ada:{_QUOTED}@{valkey.address}/7")
    try:
        await _begin(server, begin)
        await _works(server)
        # The user may touch no other keys, and did not: all are in this database, and tagged.
        async with valkey.client(db=7, username="ada", password=_PASSWORD) as redis:
            keys = await redis.keys("*")
        assert _EVENTS in keys
        assert all("{guestbook}" in key for key in keys)
        async with valkey.client(db=0, username="ada", password=_PASSWORD) as redis:
            assert await redis.dbsize() == 0
    finally:
        server.stop()
        valkey.kill()


async def _on_a_socket(folder: Path, begin: asyncio.Barrier) -> None:
    path = folder / "valkey.sock"
    valkey = Valkey(folder / "valkey", "--unixsocket", str(path)).start()
    server = _server(folder, f"unix://{path}?db=3")
    try:
        await _begin(server, begin)
        await _works(server)
        async with valkey.client(db=3) as redis:
            assert await redis.exists(_EVENTS)
    finally:
        server.stop()
        valkey.kill()


async def _debian(folder: Path, begin: asyncio.Barrier) -> None:
    # Where it is not installed the same is shown on Valkey.
    binary = _DEBIAN_REDIS if _DEBIAN_REDIS.exists() else None
    redis = Valkey(folder / "redis", binary=binary).start()
    server = _server(folder, redis.address)
    try:
        await _begin(server, begin)
        await _works(server)
        redis.kill()
        await server.until("/ready", 503)
        await asyncio.to_thread(redis.start)
        await server.until("/ready", 200)
        async with httpx.AsyncClient(base_url=server.url, verify=False) as http:
            assert len((await http.get("/messages")).json()["messages"]) == 3
    finally:
        server.stop()
        redis.kill()


async def _sentinel(folder: Path, begin: asyncio.Barrier) -> None:
    master = Valkey(folder / "master").start()
    sentinel = SentinelServer(folder / "sentinel").watch(master).start()
    server = _server(folder, f"redis+sentinel://{sentinel.address}/guestbook")
    try:
        await _begin(server, begin)
        await _works(server)
    finally:
        server.stop()
        for each in (sentinel, master):
            each.kill()


async def _cluster(folder: Path, begin: asyncio.Barrier) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
    nodes = [Valkey(folder / str(number), *options, str(free_port())) for number in range(3)]
    server: Server | None = None
    try:
        for node in nodes:
            node.start()
        owner = await join_cluster(nodes)
        # The node that is named is not the one that has the keys.
        named = next(node for node in nodes if node is not owner)
        server = _server(folder, f"redis+cluster://{named.address}")
        await _begin(server, begin)
        await _works(server)
        async with owner.client() as redis:
            assert await redis.exists(_EVENTS)
    finally:
        if server is not None:
            server.stop()
        for node in nodes:
            node.kill()


Story = Callable[[Path, asyncio.Barrier], Coroutine[Any, Any, None]]
Stories = dict[Story, asyncio.Task[None]]

_ALL: tuple[Story, ...] = (
    _with_password,
    _with_user_and_database,
    _on_a_socket,
    _debian,
    _sentinel,
    _cluster,
)


@pytest.fixture(scope="module")
async def stories(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stories]:
    begin = asyncio.Barrier(len(_ALL))
    told = {story: story(tmp_path_factory.mktemp("story"), begin) for story in _ALL}
    async with side_by_side(told, begin) as tasks:
        yield tasks


async def test_password(stories: Stories) -> None:
    """A password with any characters, quoted in the URL, works, and is in no line of the log."""
    await stories[_with_password]


async def test_user_and_database(stories: Stories) -> None:
    """A user who may only touch `{guestbook}:*`, and a database number."""
    await stories[_with_user_and_database]


async def test_unix_socket(stories: Stories) -> None:
    """A socket's path, with a database number."""
    await stories[_on_a_socket]


async def test_debian_redis(stories: Stories) -> None:
    """Redis 7.0, as Debian has it, and its restart."""
    await stories[_debian]


async def test_sentinel(stories: Stories) -> None:
    """The master that Sentinel names."""
    await stories[_sentinel]


async def test_cluster(stories: Stories) -> None:
    """A cluster of three, of which only a node without the guestbook's keys is named."""
    await stories[_cluster]
