"""Presence: every stream learns which pods come and go, and how many streams are open."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import Serve, two_pods
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import PATIENCE, allowed, eventually

# Three missed heartbeats, one more to notice it, and the time to get here.
_GONE_SECONDS = 4.5
# Sooner than events that only have other counts.
_AT_ONCE = 8.0

_Changes = list[tuple[float, dict[str, Any]]]


async def _until(
    stream: EventStream, expected: list[tuple[str, str]], *, within: float = PATIENCE
) -> dict[str, Any]:
    """Return the first `pods` event with exactly these names and states."""
    data: dict[str, Any] = {}
    async with asyncio.timeout(allowed(within)):
        while [(pod["name"], pod["state"]) for pod in data.get("pods", ())] != expected:
            data = (await stream.until("pods", within=within)).data
    return data


def _ready(*names: str) -> list[tuple[str, str]]:
    return [(name, "ready") for name in names]


def _count(data: dict[str, Any], name: str) -> int:
    return sum(pod["streams"] for pod in data["pods"] if pod["name"] == name)


async def _watch_counts(one: Server, two: Server) -> _Changes:
    """Open a stream each half second for 12 s; return the `pods` events of the first stream."""
    changes: _Changes = []
    async with EventStream(one.url) as stream, contextlib.AsyncExitStack() as stack:
        await _until(stream, _ready("pod-a", "pod-b"))

        async def note() -> None:
            while True:
                data = (await stream.until("pods")).data
                changes.append((time.monotonic(), data))

        noting = asyncio.create_task(note())
        started = time.monotonic()
        for number in range(24):
            pod = (one, two)[number % 2]
            own = (await (await stack.enter_async_context(EventStream(pod.url))).until("pods")).data
            # A new stream counts itself.
            on_one, on_two = 1 + (number + 2) // 2, (number + 1) // 2
            assert _count(own, pod.name) == (on_one, on_two)[number % 2]
            assert own["streams"] == sum(each["streams"] for each in own["pods"])
            await asyncio.sleep(max(0.0, started + (number + 1) / 2 - time.monotonic()))
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)
    return changes


@dataclass
class Shared:
    """A pod for all tests of this file, and two more pods for one test."""

    pod: Server
    redis: str
    counts: asyncio.Task[_Changes]


@pytest.fixture(scope="module")
async def shared(serve_shared: Serve, shared_valkey: Valkey) -> AsyncIterator[Shared]:
    redis = shared_valkey.new_database()
    pod = await serve_shared(redis=redis)
    counts = asyncio.create_task(_watch_counts(*await two_pods(serve_shared)))
    yield Shared(pod, redis, counts)
    counts.cancel()
    await asyncio.gather(counts, return_exceptions=True)


async def test_streams_learn_at_once_of_pods_that_come_and_go(shared: Shared, serve: Serve) -> None:
    """A pod appears with its first heartbeat, is shown as draining, and vanishes as it ends."""
    async with EventStream(shared.pod.url) as stream:
        first = (await stream.until("pods")).data
        assert [pod["name"] for pod in first["pods"]] == ["pod-a"]
        two = await serve("pod-b", redis=shared.redis, GUESTBOOK_DRAIN_SECONDS="2")
        data = await _until(stream, _ready("pod-a", "pod-b"), within=_AT_ONCE)
        for pod in data["pods"]:
            assert set(pod) == {"name", "version", "started_at", "streams", "state"}
            assert pod["version"] == first["pods"][0]["version"]
        started_at = [pod["started_at"] for pod in data["pods"]]
        assert started_at == sorted(started_at)
        assert all(stamp.endswith("Z") for stamp in started_at)

        async with EventStream(two.url) as leaving:
            await _until(leaving, _ready("pod-a", "pod-b"))
            two.signal(signal.SIGTERM)
            await _until(leaving, [("pod-a", "ready"), ("pod-b", "draining")], within=_AT_ONCE)
            await _until(stream, [("pod-a", "ready"), ("pod-b", "draining")], within=_AT_ONCE)
            await two.ended()
            await _until(stream, _ready("pod-a"), within=_AT_ONCE)


async def test_killed_pod_is_gone_after_three_heartbeats(shared: Shared, serve: Serve) -> None:
    """A pod that was killed vanishes within seconds; a slow one stays."""
    two, slow = await asyncio.gather(
        serve("pod-b", redis=shared.redis), serve("pod-c", redis=shared.redis)
    )
    async with EventStream(shared.pod.url) as stream:
        await _until(stream, _ready("pod-a", "pod-b", "pod-c"))
        two.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        slow.freeze()
        await asyncio.sleep(1.2)  # one heartbeat is missed
        slow.thaw()
        data = (await stream.until("pods", within=_GONE_SECONDS)).data
        assert [pod["name"] for pod in data["pods"]] == ["pod-a", "pod-c"]
        assert 1.5 < time.monotonic() - killed_at < allowed(_GONE_SECONDS)
        slow.signal(signal.SIGTERM)
        await slow.ended()
        await _until(stream, _ready("pod-a"), within=_AT_ONCE)


async def test_pods_events_have_the_time_of_redis(shared: Shared, serve: Serve) -> None:
    """Every `pods` event has Redis's time, so that clients can correct a wrong clock."""
    async with redis_client(shared.redis) as redis, EventStream(shared.pod.url) as stream:
        for number in range(2):
            data = (await stream.until("pods")).data
            now, micros = await redis.time()
            assert abs(now * 1000 + micros / 1000 - data["now"]) < 1000 * allowed(1)
            if not number:
                await serve("pod-d", redis=shared.redis)


async def test_two_processes_of_one_name_are_two_pods(shared: Shared, serve: Serve) -> None:
    """Both are listed, and when one ends the other stays."""
    two = await serve("pod-a", redis=shared.redis)
    async with EventStream(shared.pod.url) as left, EventStream(two.url) as right:
        for stream in (left, right):
            data = await _until(stream, _ready("pod-a", "pod-a"))
            assert len({pod["started_at"] for pod in data["pods"]}) == 2
        two.signal(signal.SIGTERM)
        await two.ended()
        await _until(left, _ready("pod-a"), within=_AT_ONCE)


async def test_counts_are_sent_at_most_every_ten_seconds(shared: Shared, serve: Serve) -> None:
    """While only counts change the streams get few events, but they do get them."""
    changes = await shared.counts
    times = [at for at, _ in changes]
    assert 1 <= len(times) <= 2
    assert all(later - sooner > 8 for sooner, later in itertools.pairwise(times))
    assert changes[-1][1]["streams"] > 1


async def test_many_pods_are_read_and_sent_less_often(valkey: Valkey, serve: Serve) -> None:
    """With hundreds of pods the list has some, the total counts all, few heartbeats read all."""
    async with valkey.client() as redis:
        # Records from the future, so that they stay alive for a while.
        later = (await redis.time())[0] * 1000 + 60_000
        record = json.dumps({"name": "other", "version": "1", "streams": 2, "state": "ready"})
        others = {f"other-{number}/x": f"{later} {record}" for number in range(400)}
        await redis.hset("{guestbook}:pods", mapping=others)
        pod = await serve("pod-a", redis=valkey.address)
        async with EventStream(pod.url) as stream:
            async with asyncio.timeout(60):
                while (data := (await stream.until("pods")).data)["streams"] != 801:
                    pass
        assert len(data["pods"]) == 100
        assert [each["name"] for each in data["pods"]].count("pod-a") == 1
        await redis.config_resetstat()

        async def has_beaten() -> bool:
            stats = await redis.info("commandstats")
            return bool(stats.get("cmdstat_evalsha", {}).get("calls", 0) >= 5)

        await eventually(has_beaten)
        stats = await redis.info("commandstats")
        # Each heartbeat also reads the decisions of moderators.
        reads = stats["cmdstat_hgetall"]["calls"] - stats["cmdstat_evalsha"]["calls"]
        assert reads <= 2
