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
from redis.exceptions import RedisError

from tests.processes import (
    SentinelServer,
    Server,
    Valkey,
    eventually,
    free_port,
    redis_client,
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
    replica = Valkey(folder / "replica", "--replicaof", "127.0.0.1", str(master.port)).start()
    sentinel = SentinelServer(folder / "sentinel").watch(master).start()
    server = _server(folder, f"redis+sentinel://{sentinel.address}/guestbook")
    try:
        await _begin(server, begin)
        await _works(server)
        await _follows_fail_over(server, master, replica, sentinel)
    finally:
        server.stop()
        for each in (sentinel, replica, master):
            each.kill()


async def _follows_fail_over(
    server: Server, master: Valkey, replica: Valkey, sentinel: Valkey
) -> None:
    async def is_known() -> bool:
        async with sentinel.client() as redis:
            found = await redis.execute_command("SENTINEL", "REPLICAS", "guestbook")
        return bool(found) and await is_in_step()

    async def is_in_step() -> bool:
        async with master.client() as left, replica.client() as right:
            return bool(
                (await right.info("replication"))["master_link_status"] == "up"
                and await left.xrange(_EVENTS) == await right.xrange(_EVENTS)
            )

    async def is_promoted() -> bool:
        try:
            async with replica.client() as redis:
                return bool((await redis.role())[0] == "master")
        except RedisError:
            # Whoever is connected while a replica becomes the master is cut off.
            return False

    # Sentinel looks for replicas every ten seconds.
    await eventually(is_known, within=15)
    async with (
        EventStream(server.url) as stream,
        httpx.AsyncClient(base_url=server.url, timeout=10, verify=False) as http,
    ):
        await stream.until("pods")
        master.kill()
        await eventually(is_promoted, within=15)
        await server.until("/ready", 200, within=10)
        async with replica.client() as redis:
            counted = [key for key in await redis.keys("*") if "rate" in key]
            await redis.delete(*counted)
        answer = await http.post("/messages", json={"text": "after the fail-over"})
        assert answer.status_code == 201
        assert [event.data for event in await stream.entries(1)] == [answer.json()]
        async with replica.client() as redis:
            assert await redis.xlen(_EVENTS) == 5
    assert "Traceback" not in server.lines()


async def _cluster(folder: Path, begin: asyncio.Barrier) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
    nodes = [Valkey(folder / str(number), *options, str(free_port())) for number in range(3)]
    server: Server | None = None
    try:
        for node in nodes:
            node.start()
        owner = await _join(nodes)
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


async def _join(nodes: list[Valkey]) -> Valkey:
    """Makes a cluster of the nodes; gives the one that has the guestbook's keys."""
    size = 16384 // len(nodes)
    for number, node in enumerate(nodes):
        last = 16383 if node is nodes[-1] else (number + 1) * size - 1
        async with node.client() as redis:
            await redis.execute_command(f"CLUSTER ADDSLOTSRANGE {number * size} {last}")
            bus = nodes[0].options[-1]
            await redis.execute_command(f"CLUSTER MEET 127.0.0.1 {nodes[0].port} {bus}")

    async def is_formed() -> bool:
        for node in nodes:
            async with node.client() as redis:
                state = (await redis.execute_command("CLUSTER INFO"))["cluster_state"]
                known = len(await redis.execute_command("CLUSTER SHARDS"))
            if state != "ok" or known != len(nodes):
                return False
        return True

    await eventually(is_formed, within=15)
    async with redis_client(f"redis://{nodes[0].address}") as redis:
        slot = int(await redis.execute_command("CLUSTER KEYSLOT", _EVENTS))
    return nodes[min(slot // size, len(nodes) - 1)]


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
    """The master that Sentinel names, and after a fail-over the other one."""
    await stories[_sentinel]


async def test_cluster(stories: Stories) -> None:
    """A cluster of three, of which only a node without the guestbook's keys is named."""
    await stories[_cluster]
