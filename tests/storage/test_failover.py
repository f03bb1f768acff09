"""The master becomes another server while clients write and read.

The scenarios run side by side, each with servers of its own; each test awaits one.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from guestbook.core.messages import EntryId
from tests.support.messages import post, texts
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.sse import EventStream, Visitor
from tests.support.valkey import SentinelServer, Valkey, join_cluster
from tests.support.waiting import Scenario, Scenarios, eventually, eventually_equal

_EVENTS = "{guestbook}:events"


class Load:
    """Writers that repeat each post until it is acknowledged, and a reader of all of it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = server.client()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False
        self.acknowledged: list[str] = []
        self.visitor = Visitor("0-0")

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self.visitor.stay(self._server.url))
        self._tasks = [asyncio.create_task(self._write()) for _ in range(3)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._reading, *self._tasks):
            task.cancel()
        await asyncio.gather(self._reading, *self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def _write(self) -> None:
        while not self._is_over:
            key = {"Idempotency-Key": uuid.uuid4().hex}
            while (answer := await self._post(key)).status_code != 201:
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.1)
            self.acknowledged.append(answer.json()["id"])
            await asyncio.sleep(0.01)

    async def _post(self, key: dict[str, str]) -> httpx.Response:
        return await self._http.post("/messages", json={"text": "hello"}, headers=key)

    async def makes_progress(self) -> None:
        """Wait until several more have been acknowledged."""
        count = len(self.acknowledged)

        def has_more() -> bool:
            for task in self._tasks:
                assert not task.done(), task.exception()
            return len(self.acknowledged) > count + 20

        await eventually(has_more)

    async def end(self, master: Valkey) -> list[str]:
        """Stop writing, check what was read, and return the ids that were lost.

        After a `reset` a reader has loaded the list again and goes on from there.
        """
        self._is_over = True
        await asyncio.gather(*self._tasks)
        async with master.client() as redis:
            stored = [entry_id for entry_id, _ in await redis.xrange(_EVENTS)]
        await eventually(lambda: self.visitor.ids[-1:] == stored[-1:])
        resets = [n for n, event in enumerate(self.visitor.events) if event.name == "reset"]
        read, begin = self.visitor.ids, stored[0]
        if resets:
            begin, read = read[resets[-1]], read[resets[-1] + 1 :]
            stored_since = [i for i in stored if EntryId.parse(i) > EntryId.parse(begin)]
        else:
            stored_since = stored
        assert read == stored_since
        listed = (await self._http.get("/messages", params={"limit": 50})).json()["messages"]
        assert [message["id"] for message in listed] == stored[: -len(listed) - 1 : -1]
        lost = [entry_id for entry_id in self.acknowledged if entry_id not in stored]
        assert bool(lost) <= bool(resets)
        return lost


# The scenarios


async def cluster_moves_and_fails_over(folder: Path, begin: asyncio.Barrier) -> None:
    """The keys' slot moves to another node key by key, back at once, and then its node dies."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
    with contextlib.ExitStack() as stack:
        *masters, replica = (
            stack.enter_context(Valkey(folder / str(number), *options, str(free_port())))
            for number in range(4)
        )
        owner = await join_cluster(masters, replica)
        other = next(node for node in masters if node is not owner)
        redis = f"redis+cluster://{other.address}"
        server = stack.enter_context(Server(folder / "server.log", redis))
        await server.ready()
        await begin.wait()
        async with Load(server) as load:
            await load.makes_progress()
            await _migrate_key_by_key(owner, other, masters)
            await load.makes_progress()
            await _migrate_at_once(other, owner)
            await load.makes_progress()
            owner.kill()
            await eventually(replica.is_master)
            await load.makes_progress()
            lost = await load.end(replica)
        # The replica may lag; how far depends on how busy the machine is.
        assert len(lost) < len(load.acknowledged) / 2


async def _migrate_key_by_key(source: Valkey, target: Valkey, masters: list[Valkey]) -> None:
    """As `valkey-cli --cluster reshard` does it."""
    async with source.client() as left, target.client() as right:
        slot = await left.execute_command("CLUSTER KEYSLOT", _EVENTS)
        from_id = await left.execute_command("CLUSTER MYID")
        to_id = await right.execute_command("CLUSTER MYID")
        await right.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {from_id}")
        await left.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {to_id}")
        while keys := await left.execute_command(f"CLUSTER GETKEYSINSLOT {slot} 3"):
            await left.migrate("127.0.0.1", target.port, keys, 0, 5000)
        for node in (target, source, *masters):
            async with node.client() as redis:
                await redis.execute_command(f"CLUSTER SETSLOT {slot} NODE {to_id}")


async def _migrate_at_once(source: Valkey, target: Valkey) -> None:
    """Migrate with the command of Valkey 9."""
    async with source.client() as left, target.client() as right:
        slot = await left.execute_command("CLUSTER KEYSLOT", _EVENTS)
        to_id = await right.execute_command("CLUSTER MYID")
        await left.execute_command(f"CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {to_id}")

        async def has_slot() -> bool:
            return int(await right.execute_command(f"CLUSTER COUNTKEYSINSLOT {slot}")) > 0

        await eventually(has_slot)


async def sentinel_fails_over(folder: Path, begin: asyncio.Barrier) -> None:
    """The master dies; one of the Sentinels hangs all the time."""
    with (
        Valkey(folder / "master") as master,
        Valkey(folder / "replica", "--replicaof", "127.0.0.1", str(master.port)) as replica,
        Valkey(folder / "hanging") as hanging,
        SentinelServer(folder / "sentinel").watch(master) as sentinel,
    ):
        # A Sentinel that hangs must not keep the guestbook from asking the others.
        hanging.freeze()
        nodes = f"{hanging.address},{sentinel.address}"
        with Server(folder / "server.log", f"redis+sentinel://{nodes}/guestbook") as server:
            await server.ready()
            await begin.wait()

            async def is_known() -> bool:
                async with sentinel.client() as redis:
                    return bool(await redis.execute_command("SENTINEL", "REPLICAS", "guestbook"))

            # Sentinel looks for replicas every ten seconds.
            await eventually(is_known)
            async with Load(server) as load:
                await load.makes_progress()
                master.kill()
                await eventually(replica.is_master)
                await load.makes_progress()
                lost = await load.end(replica)
            assert len(lost) < len(load.acknowledged) / 2
            assert "Traceback" not in server.lines()


async def new_master_lacks_the_newest(folder: Path, begin: asyncio.Barrier) -> None:
    """Messages that the new master never had disappear, and readers load the list again."""
    with (
        Valkey(folder / "old") as old,
        Valkey(folder / "new", "--replicaof", "127.0.0.1", str(old.port)) as new,
    ):
        async with Proxy(old.port) as proxy:
            with Server(folder / "server.log", proxy.address) as server:
                await server.ready()
                await begin.wait()
                await _lose_the_newest(server, proxy, old, new)


async def _lose_the_newest(server: Server, proxy: Proxy, old: Valkey, new: Valkey) -> None:
    async with (
        server.client() as http,
        EventStream(server.url, after="0-0") as stream,
        old.client() as left,
        new.client() as right,
    ):
        kept = (await post(http, "kept"))["id"]
        await eventually(lambda: _has(right, kept))
        await right.replicaof("NO", "ONE")
        lost = (await post(http, "lost"))["id"]
        assert [event.id for event in await stream.entries(2)] == [kept, lost]
        # As many, and newer: the number and the newest id tell nothing.
        newer = await right.xadd(_EVENTS, {"text": "newer", "pod": "other"})
        proxy.target = new.port
        await proxy.cut()
        (reset,) = await stream.entries(1)
        assert reset.name == "reset"
        await eventually_equal(lambda: texts(http), ["newer", "kept"])
        assert await left.xlen(_EVENTS) == await right.xlen(_EVENTS) == 2
    async with EventStream(server.url, after=kept) as stream:
        assert [event.id for event in await stream.entries(1)] == [newer]


async def _has(redis: Any, entry_id: str) -> bool:
    return bool(await redis.xrange(_EVENTS, entry_id, entry_id))


SCENARIOS: tuple[Scenario, ...] = (
    cluster_moves_and_fails_over,
    sentinel_fails_over,
    new_master_lacks_the_newest,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_master(scenarios: Scenarios, scenario: Scenario) -> None:
    """Nothing that was acknowledged is lost without a `reset`; more is stated in each scenario."""
    await scenarios[scenario]
