"""The cost of the fan-out, counted, not timed: packets to streams, and commands of Redis.

How long things take is measured by `bench/`, on a quiet machine; these tests need none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_INFO")

_STREAMS = 100
_BURST = 50
_KEY = "{guestbook}:events"
# How many commands a server sends without any streams.
_OWN = 40
# How long the client may need to read what its kernel has received.
_GRACE_SECONDS = 0.2
# Where `tcpi_data_segs_in` begins in Linux's `struct tcp_info`.
_DATA_SEGMENTS_IN = 152


async def _commands(redis: Any) -> int:
    """Return how many commands Redis has run, not counting the questions after it."""
    stats = await redis.info("commandstats")
    return sum(stats[name]["calls"] for name in stats if name != "cmdstat_info")


class Crowd:
    """Many streams of one server, read in the background."""

    def __init__(self, streams: list[EventStream]) -> None:
        self._streams = streams
        self.greeted = 0
        """How many `pods` events have come; each stream begins with one."""
        self._others = 0
        self._texts: list[list[str]] = [[] for _ in streams]

    async def follow(self) -> None:
        """Record what the streams are sent. Never returns."""
        readers = (self._read(*pair) for pair in zip(self._streams, self._texts, strict=True))
        await asyncio.gather(*readers)

    async def _read(self, stream: EventStream, texts: list[str]) -> None:
        while (event := await stream.next()) is not None:
            if event.name == "message":
                texts.append(event.data["text"])
            else:
                self._others += 1
                self.greeted += event.name == "pods"

    async def count_packets(self, action: Callable[[], Awaitable[None]]) -> int:
        """Return how many packets with data the streams got while an action ran.

        Where a `ping` or a `pods` event came meanwhile the action is repeated, since such an event
        may have a packet of its own or share one with a message.
        """
        for _ in range(5):
            for texts in self._texts:
                texts.clear()
            before, others = self._packets(), self._others
            await action()
            count = self._packets() - before
            # By then the clients have read everything that the kernel has counted.
            await asyncio.sleep(_GRACE_SECONDS)
            if self._others == others:
                return count
        raise AssertionError("another event came each time")

    def _packets(self) -> int:
        return sum(map(_packets, self._streams))

    async def have(self, *texts: str) -> None:
        """Wait until every stream was sent the last message; check that it got exactly these."""
        await eventually(lambda: all(t[-1:] == [texts[-1]] for t in self._texts))
        assert all(t == list(texts) for t in self._texts)


def _packets(stream: EventStream) -> int:
    info = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (count,) = struct.unpack_from("=I", info, _DATA_SEGMENTS_IN)
    return int(count)


@contextlib.asynccontextmanager
async def _crowd(server: Server, cursor: str | None = None) -> AsyncIterator[Crowd]:
    """Open the streams, and wait until each of them has its first event."""
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(EventStream(server.url, last_event_id=cursor))
            for _ in range(_STREAMS)
        ]
        crowd = Crowd(streams)
        following = asyncio.create_task(crowd.follow())
        try:
            await eventually(lambda: crowd.greeted >= _STREAMS)
            yield crowd
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def alone(valkey: Valkey, serve: Serve) -> Server:
    """Start a server that has a Redis to itself."""
    return await serve(redis=f"redis://{valkey.address}")


async def test_burst_is_one_write_for_each_stream(alone: Server, valkey: Valkey) -> None:
    """Fifty messages that reach Redis in one transaction go out in one write to each stream."""
    texts = [str(n) for n in range(_BURST)]
    async with _crowd(alone) as crowd, valkey.client() as redis:

        async def publish() -> None:
            async with redis.pipeline(transaction=True) as pipe:
                for text in texts:
                    pipe.xadd(_KEY, {"text": text, "pod": "elsewhere"})
                await pipe.execute()
            await crowd.have(*texts)

        assert await crowd.count_packets(publish) == _STREAMS


async def test_message_is_one_write_for_each_stream(alone: Server, valkey: Valkey) -> None:
    """Messages that arrive one after the other cost one write each, for each stream."""
    texts = [str(n) for n in range(5)]
    async with _crowd(alone) as crowd, valkey.client() as redis:

        async def publish() -> None:
            for number, text in enumerate(texts, start=1):
                await redis.xadd(_KEY, {"text": text, "pod": "elsewhere"})
                await crowd.have(*texts[:number])

        assert await crowd.count_packets(publish) == 5 * _STREAMS


async def test_idle_streams_are_not_written_to(alone: Server) -> None:
    """Between two events, a hundred streams cost no write."""
    async with _crowd(alone) as crowd:
        assert await crowd.count_packets(lambda: asyncio.sleep(2)) == 0


@pytest.mark.slow
async def test_streams_cost_redis_no_commands(alone: Server, valkey: Valkey) -> None:
    """Redis gets as many commands with a hundred streams as with none, also for a message."""

    async def count_commands(redis: Any) -> int:
        before = await _commands(redis)
        for text in ("one", "two"):
            await asyncio.sleep(1)
            await redis.xadd(_KEY, {"text": text, "pod": "elsewhere"})
        await asyncio.sleep(1)
        return await _commands(redis) - before

    async with valkey.client() as redis:
        without = await count_commands(redis)
        async with _crowd(alone) as crowd:
            held = await count_commands(redis)
            await crowd.have("one", "two")
    # A heartbeat is several commands, and one more of them may fall into the window.
    assert held <= without + _OWN


async def test_returning_streams_cost_redis_nothing(alone: Server, valkey: Valkey) -> None:
    """A hundred streams that come back with a cursor are served from memory."""
    async with valkey.client() as redis:
        cursor = await redis.xadd(_KEY, {"text": "seen", "pod": "elsewhere"})
        for text in ("missed", "missed too"):
            last = await redis.xadd(_KEY, {"text": text, "pod": "elsewhere"})
        # Wait until the server has read them.
        async with EventStream(alone.url, after=cursor) as stream:
            assert (await stream.entries(2))[-1].id == last
        before = await redis.info("commandstats")
        async with _crowd(alone, cursor) as crowd:
            await crowd.have("missed", "missed too")
        after = await redis.info("commandstats")
    for name in ("cmdstat_xrange", "cmdstat_xrevrange", "cmdstat_xread"):
        calls = [stats.get(name, {"calls": 0})["calls"] for stats in (before, after)]
        assert calls[1] - calls[0] <= _OWN, name
