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
from tests.conftest import Serve, two_pods
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import run_scenarios

_SEED = 5
_SHORT_SECONDS = 10.0
_SECONDS = 28.0
_SIZE = Size(readers=100, writers=5, earlier=500, long=0.2)
# The ping comes every 15 s.
_IDLE_LIMIT = 19.0


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
    with (
        Valkey(folder / "valkey") as valkey,
        Server(folder / "server.log", valkey.address) as server,
    ):
        await server.ready()
        # Long enough for two pings.
        until = asyncio.sleep(2 * load.PING_SECONDS + 2)
        await load.idle(server, valkey, until=until, limit=_IDLE_LIMIT)


async def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path) -> None:
    """Under any fault an acknowledged message is stored once, and each reader gets it once."""
    await _faults(tmp_path, _SHORT_SECONDS)


@pytest.mark.slow
async def test_nothing_is_lost_under_more_faults(scenarios: dict[str, asyncio.Task[None]]) -> None:
    """Three times as many faults lose nothing either."""
    await scenarios["faults"]


@pytest.mark.slow
async def test_idle_stream_lives(scenarios: dict[str, asyncio.Task[None]]) -> None:
    """Pings keep an idle stream open through a proxy that cuts silent connections."""
    await scenarios["idle"]


@pytest.mark.slow
async def test_slow_readers_do_not_slow_others(serve: Serve, valkey: Valkey) -> None:
    """They are dropped and come back; memory and the other streams stay as they were."""
    server = await serve(redis=valkey.address)
    await load.slow_readers(server, valkey, streams=60, stalled=20, megabytes=12)


@pytest.mark.slow
async def test_reconnect_storm(serve: Serve, valkey: Valkey) -> None:
    """All streams of a server move to another at once: none is refused, Redis has no extra load."""
    lost, left = await two_pods(serve, redis=valkey.address)
    await load.storm(lost, left, valkey, streams=1000, rng=Random(_SEED))


@pytest.mark.slow
async def test_flood_of_posts(serve: Serve, valkey: Valkey) -> None:
    """With too many posts, and no Redis for a while, each is answered or refused in time."""
    env = {"redis": valkey.address, "GUESTBOOK_MAX_MESSAGES": "1000000"}
    servers = [await serve(**env), await serve("pod-b", GUESTBOOK_POST_RATE="20/10s", **env)]
    found = await load.flood(servers, valkey, connections=200, seconds=6)
    assert {201, 429, 503} <= set(found.statuses)
