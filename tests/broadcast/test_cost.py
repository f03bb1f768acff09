"""What the fan-out costs, counted and not timed: packets to streams, and commands of Redis.

`bench/` measures how long things take; that needs a quiet machine, and these tests do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks for TCP_INFO")

_STREAMS = 200
_BURST = 50
_KEY = "{guestbook}:events"
# The commands that a server sends anyhow.
_OWN = 40
# Where `tcpi_data_segs_in` begins in Linux's `struct tcp_info`.
_DATA_SEGMENTS_IN = 152


async def _commands(redis: Any) -> int:
    """How many commands Redis has run, but for those that ask."""
    stats = await redis.info("commandstats")
    return sum(stats[name]["calls"] for name in stats if name != "cmdstat_info")


class Crowd:
    """Many streams on one server, read in the background."""

    def __init__(self, streams: list[EventStream]) -> None:
        self._streams = streams
        self.pods = 0
        self.texts: list[list[str]] = [[] for _ in streams]

    async def follow(self) -> None:
        """Notes what the streams get. Never returns."""
        readers = (self._read(*pair) for pair in zip(self._streams, self.texts, strict=True))
        await asyncio.gather(*readers)

    async def _read(self, stream: EventStream, texts: list[str]) -> None:
        while (event := await stream.next(within=60)) is not None:
            if event.name == "message":
                texts.append(event.data["text"])
            self.pods += event.name == "pods"

    def packets(self) -> int:
        """How many with data in them the kernel has got: as many as were sent."""
        return sum(map(_packets, self._streams))

    async def have(self, *texts: str) -> None:
        """Waits until every stream was given exactly these messages."""
        await eventually(lambda: all(t[-1:] == [texts[-1]] for t in self.texts), within=20)
        assert all(t == list(texts) for t in self.texts)


def _packets(stream: EventStream) -> int:
    info = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (count,) = struct.unpack_from("=I", info, _DATA_SEGMENTS_IN)
    return int(count)


@contextlib.asynccontextmanager
async def _crowd(server: Server, cursor: str | None = None) -> AsyncIterator[Crowd]:
    """Opens the streams; goes on when each of them has its greeting, and their number is told."""
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(EventStream(server.url, last_event_id=cursor))
            for _ in range(_STREAMS)
        ]
        crowd = Crowd(streams)
        following = asyncio.create_task(crowd.follow())
        try:
            await eventually(lambda: crowd.pods >= _STREAMS, within=20)
            yield crowd
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def alone(valkey: Valkey, serve: Serve) -> Server:
    """A server whose Redis nobody else uses."""
    return await serve(redis=f"redis://{valkey.address}")


async def test_burst_is_one_write_for_each_stream(alone: Server, valkey: Valkey) -> None:
    """Fifty messages that reach Redis in one transaction go out in one write to each stream."""
    texts = [str(n) for n in range(_BURST)]
    async with _crowd(alone) as crowd, valkey.client() as redis:
        before, pods = crowd.packets(), crowd.pods
        async with redis.pipeline(transaction=True) as pipe:
            for text in texts:
                pipe.xadd(_KEY, {"text": text, "pod": "elsewhere"})
            await pipe.execute()
        await crowd.have(*texts)
        sent = crowd.packets() - before - (crowd.pods - pods)
    assert sent == _STREAMS


async def test_every_message_is_at_most_one_write_for_each_stream(
    alone: Server, valkey: Valkey
) -> None:
    """Messages that come one after the other cost no more writes than they are."""
    texts = [str(n) for n in range(5)]
    async with _crowd(alone) as crowd, valkey.client() as redis:
        before, pods = crowd.packets(), crowd.pods
        for number, text in enumerate(texts, start=1):
            await redis.xadd(_KEY, {"text": text, "pod": "elsewhere"})
            await crowd.have(*texts[:number])
        sent = crowd.packets() - before - (crowd.pods - pods)
    assert sent == 5 * _STREAMS


async def test_idle_streams_are_not_sent_to(alone: Server) -> None:
    """Between two events that everybody gets, two hundred streams cost no write."""
    async with _crowd(alone) as crowd:
        pods = crowd.pods
        before = crowd.packets()
        await asyncio.sleep(2)
        sent = crowd.packets() - before - (crowd.pods - pods)
    # At most one `ping` comes within that time.
    assert sent in (0, _STREAMS)


@pytest.mark.slow
async def test_redis_does_not_notice_streams(alone: Server, valkey: Valkey) -> None:
    """Redis gets as many commands with two hundred streams as with none, also for a message."""

    async def told(redis: Any) -> int:
        before = await _commands(redis)
        for text in ("one", "two"):
            await asyncio.sleep(1)
            await redis.xadd(_KEY, {"text": text, "pod": "elsewhere"})
        await asyncio.sleep(1)
        return await _commands(redis) - before

    async with valkey.client() as redis:
        without = await told(redis)
        async with _crowd(alone) as crowd:
            held = await told(redis)
            await crowd.have("one", "two")
    # A heartbeat is several commands, and one more of them may fall into the time.
    assert held <= without + _OWN


async def test_returning_streams_cost_redis_nothing(alone: Server, valkey: Valkey) -> None:
    """Two hundred streams that come back with a cursor are served from memory."""
    async with valkey.client() as redis:
        cursor = await redis.xadd(_KEY, {"text": "seen", "pod": "elsewhere"})
        for text in ("missed", "missed too"):
            last = await redis.xadd(_KEY, {"text": text, "pod": "elsewhere"})
        # The server has read what its own streams are to be given.
        async with EventStream(alone.url, after=cursor) as stream:
            assert (await stream.entries(2))[-1].id == last
        before = await redis.info("commandstats")
        async with _crowd(alone, cursor) as crowd:
            await crowd.have("missed", "missed too")
        after = await redis.info("commandstats")
    for name in ("cmdstat_xrange", "cmdstat_xrevrange", "cmdstat_xread"):
        calls = [stats.get(name, {"calls": 0})["calls"] for stats in (before, after)]
        assert calls[1] - calls[0] <= _OWN, name
