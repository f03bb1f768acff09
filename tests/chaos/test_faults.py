"""Faults and load for some seconds; longer among the slow tests; `make faults` takes ten minutes.

Of the slow ones, the scenario that waits runs beside the one that needs the processor.
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
_SHORT_SECONDS = 10.0
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
async def scenarios(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    named = {
        "faults": _more_faults(tmp_path_factory.mktemp("faults")),
        "idle": _idle(tmp_path_factory.mktemp("idle")),
    }
    async with run_scenarios(named) as tasks:
        yield tasks


async def _faults(folder: Path, seconds: float) -> Report:
    report = await run(folder, seconds=seconds, seed=_SEED, size=_SIZE)
    assert not report.verdict.violations
    assert not report.complaints
    assert report.is_clean
    total = report.verdict.total
    assert total.deliveries > total.messages * _SIZE.readers / 2
    return report


async def _more_faults(folder: Path) -> None:
    report = await _faults(folder, _SECONDS)
    # Too few messages are held in a shorter run to be sure of both.
    assert report.approved
    assert report.refused


async def _idle(folder: Path) -> None:
    place = Place(folder)
    await asyncio.to_thread(place.valkey.start)
    try:
        server = await place.server()
        # Long enough for two pings.
        until = asyncio.sleep(2 * load.PING_SECONDS + 2)
        await load.idle(server, place.valkey, until=until, limit=_IDLE_LIMIT)
    finally:
        place.stop()


async def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path) -> None:
    """Under any fault an acknowledged message is stored once, and each reader gets it once."""
    await _faults(tmp_path, _SHORT_SECONDS)


@pytest.mark.slow
async def test_nothing_is_lost_under_more_faults(scenarios: dict[str, asyncio.Task[None]]) -> None:
    """As above, through three times as many of them."""
    await scenarios["faults"]


@pytest.mark.slow
async def test_idle_stream_lives(scenarios: dict[str, asyncio.Task[None]]) -> None:
    """Pings keep an idle stream open through a proxy that cuts silent connections."""
    await scenarios["idle"]


@pytest.mark.slow
async def test_slow_readers_do_not_slow_others(place: Place) -> None:
    """They are dropped and come back; memory and the other streams stay as they were."""
    server = await place.server()
    await load.slow_readers(server, place.valkey, streams=60, stalled=20, megabytes=12)


@pytest.mark.slow
async def test_reconnect_storm(place: Place) -> None:
    """All streams of a server move to another at once: none is refused, Redis has no extra load."""
    lost, left = await place.server(), await place.server()
    await load.storm(lost, left, place.valkey, streams=1000, rng=Random(_SEED))


@pytest.mark.slow
async def test_flood_of_posts(place: Place) -> None:
    """With too many posts, and no Redis for a while, each is answered or refused in time."""
    keep_all = {"GUESTBOOK_MAX_MESSAGES": "1000000"}
    servers = [
        await place.server(**keep_all),
        await place.server(GUESTBOOK_POST_RATE="20/10s", **keep_all),
    ]
    found = await load.flood(servers, place.valkey, connections=200, seconds=6)
    assert {201, 429, 503} <= set(found.statuses)
