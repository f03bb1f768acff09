"""The promise under faults and load, for a minute; `make faults` does it for ten.

What takes its time goes on side by side with what takes the processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.chaos import load
from tests.chaos.harness import Report, Size, run
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import run_scenarios

_SEED = 5
_SECONDS = 28.0
_SIZE = Size(readers=100, writers=5, earlier=500, long=0.2)
# The ping comes every 15 s.
_IDLE_LIMIT = 19.0


class Place:
    """A Valkey, and servers that are started when they are needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.valkey = Valkey(folder / "valkey")
        self._servers: list[Server] = []

    async def server(self, **env: str) -> Server:
        name = f"pod-{len(self._servers)}"
        server = Server(self._folder / f"{name}.log", self.valkey.address, name, **env)
        self._servers.append(server.start())
        return await server.ready(within=60)

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
        self.valkey.kill()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    await asyncio.to_thread(place.valkey.start)
    yield place
    place.stop()


@pytest.fixture(scope="module")
async def stories(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    told = {
        "faults": _faults(tmp_path_factory.mktemp("faults")),
        "idle": _idle(tmp_path_factory.mktemp("idle")),
    }
    async with run_scenarios(told) as tasks:
        yield tasks


async def _faults(folder: Path) -> None:
    _hold(await run(folder, seconds=_SECONDS, seed=_SEED, size=_SIZE))


def _hold(report: Report) -> None:
    assert not report.verdict.wrongs
    assert not report.complaints
    assert report.is_clean
    total = report.verdict.total
    assert total.deliveries > total.messages * _SIZE.readers / 2


async def _idle(folder: Path) -> None:
    place = Place(folder)
    await asyncio.to_thread(place.valkey.start)
    try:
        server = await place.server()
        # Twice as long, and a little, as there may be nothing to say.
        until = asyncio.sleep(2 * load.PING_SECONDS + 2)
        await load.idle(server, place.valkey, until=until, limit=_IDLE_LIMIT)
    finally:
        place.stop()


async def test_nothing_is_lost_doubled_or_out_of_order(
    stories: dict[str, asyncio.Task[None]],
) -> None:
    """Whatever fails: acknowledged is stored, once; everybody is given it, once, in order."""
    await stories["faults"]


async def test_idle_stream_lives(stories: dict[str, asyncio.Task[None]]) -> None:
    """A stream with nothing to say outlives a proxy that cuts off who is silent."""
    await stories["idle"]


@pytest.mark.slow
async def test_slow_readers_harm_nobody(place: Place) -> None:
    """Who stops to read is dropped, and comes back; the others and the memory feel nothing."""
    server = await place.server()
    await load.slow_readers(server, place.valkey, streams=60, stalled=20, megabytes=12)


@pytest.mark.slow
async def test_reconnect_storm(place: Place) -> None:
    """A server's streams come to another one at once: none is refused, Redis notices nothing."""
    lost, left = await place.server(), await place.server()
    await load.storm(lost, left, place.valkey, streams=1000, rng=Random(_SEED))


@pytest.mark.slow
async def test_flood_of_posts(place: Place) -> None:
    """Too many posts, and no Redis for a while: each is answered or refused in time."""
    keep_all = {"GUESTBOOK_MAX_MESSAGES": "1000000"}
    servers = [
        await place.server(**keep_all),
        await place.server(GUESTBOOK_POST_RATE="20/10s", **keep_all),
    ]
    found = await load.flood(servers, place.valkey, connections=200, seconds=6)
    assert {201, 429, 503} <= set(found.statuses)
