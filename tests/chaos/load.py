"""Load: readers that do not read, many that connect at once, floods of posts, idle streams.

Each function makes a load, asserts that the service holds, and returns measurements.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.readers import Connection, connect
from tests.chaos.site import EVENTS
from tests.chaos.watch import memory_kib
from tests.support import raw
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

_GROWTH_KIB = 16 * 1024
# 64 KiB for a stream, which Linux doubles, and the excess of one `send`.
_UNSENT_BYTES = 256 * 1024
_SMALL_BUFFER = 16 * 1024
_LONG_TEXT = "4 KB of text " * 315
_BATCH = 40
_PATIENCE_SECONDS = 3.0
# For the round trip and the queue before it, on a busy machine.
_SLACK_SECONDS = 3.0
_REPLAY_SECONDS = 300.0
PING_SECONDS = 15.0


class Listener:
    """A reader that keeps the number of its events, and a digest of their order."""

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        self.count = 0
        self.digest = 0
        self.wrong: Counter[str] = Counter()
        self.connection: Connection | None = None

    def take(self, event_id: str, name: str, event: bytes) -> None:
        self.cursor = event_id
        if name != "message":
            self.wrong[name] += 1
        self.count += 1
        self.digest = hash((self.digest, event_id))

    async def listen(self, port: int, *, buffer_bytes: int | None = None) -> Connection:
        """Open a stream at the cursor."""
        self.connection = await connect(port, self.cursor, self.take, buffer_bytes=buffer_bytes)
        return self.connection

    def cut(self) -> None:
        if self.connection is not None:
            self.connection.cut()


def digest(ids: list[str]) -> int:
    """Return the digest of a listener that received exactly these ids in this order."""
    value = 0
    for entry_id in ids:
        value = hash((value, entry_id))
    return value


async def open_all(
    listeners: list[Listener], port: int, *, buffer_bytes: int | None = None
) -> None:
    """Open a stream for each; return when all have a first event."""
    connections = []
    for start in range(0, len(listeners), 200):
        batch = listeners[start : start + 200]
        connections += await asyncio.gather(
            *(each.listen(port, buffer_bytes=buffer_bytes) for each in batch)
        )
    await eventually(lambda: all(each.pods for each in connections), within=60)


async def publish(redis: Any, count: int, text: str) -> list[str]:
    """Store messages all at once; return their ids."""
    pipeline = redis.pipeline(transaction=False)
    for _ in range(count):
        pipeline.xadd(EVENTS, {"text": text, "pod": "elsewhere"})
    ids: list[str] = await pipeline.execute()
    return ids


def unsent_bytes(server: Server) -> int:
    """Return the most that the kernel buffers for one of a server's clients."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    mine = [row[4] for row in rows if int(row[1].partition(":")[2], 16) == server.port]
    return max((int(queues.partition(":")[0], 16) for queues in mine), default=0)


@dataclass
class SlowReaders:
    """The effect of readers that do not read on the others."""

    streams: int
    stalled: int
    megabytes: float
    growth_kib: int
    unsent_bytes: int
    ratio: float
    """The time until a batch reached all others, relative to before."""


async def slow_readers(
    server: Server, valkey: Valkey, *, streams: int, stalled: int, megabytes: float
) -> SlowReaders:
    """Some readers stop to read while much is published: they are dropped, and miss nothing."""
    quick = [Listener("0-0") for _ in range(streams - stalled)]
    slow = [Listener("0-0") for _ in range(stalled)]
    listeners = [*quick, *slow]
    ids: list[str] = []
    async with valkey.client() as redis:

        async def batch(readers: list[Listener]) -> float:
            started = time.monotonic()
            ids.extend(await publish(redis, _BATCH, _LONG_TEXT))
            await eventually(lambda: all(each.count >= len(ids) for each in readers), within=60)
            return time.monotonic() - started

        try:
            await open_all(quick, server.port)
            await open_all(slow, server.port, buffer_bytes=_SMALL_BUFFER)
            before = [await batch(listeners) for _ in range(5)]
            for each in slow:
                assert each.connection is not None
                each.connection.transport.pause_reading()
            memory = memory_kib(server)
            growth = unsent = 0
            took = []
            for _ in range(int(megabytes * 1e6 / len(_LONG_TEXT) / _BATCH)):
                took.append(await batch(quick))
                growth = max(growth, memory_kib(server) - memory)
                unsent = max(unsent, unsent_bytes(server))
            returning = asyncio.create_task(_bring_back(slow, server, len(ids)))
            while not returning.done():
                growth = max(growth, memory_kib(server) - memory)
                await asyncio.wait([returning], timeout=0.1)
            await returning
            expected = digest(ids)
            assert all(each.digest == expected and not each.wrong for each in listeners)
            assert all(each.connection and not each.connection.gone.done() for each in quick)
            assert growth < _GROWTH_KIB, f"grew by {growth} KiB"
            assert unsent < _UNSENT_BYTES, f"the kernel keeps {unsent} bytes for a stream"
        finally:
            for each in listeners:
                each.cut()
    ratio = statistics.median(took) / statistics.median(before)
    return SlowReaders(streams, stalled, megabytes, growth, unsent, ratio)


async def _bring_back(slow: list[Listener], server: Server, count: int) -> None:
    """Read the rest, notice the lost connection, and reconnect with the cursor."""
    for each in slow:
        assert each.connection is not None
        each.connection.transport.resume_reading()
    await asyncio.wait([each.connection.gone for each in slow if each.connection], timeout=30)
    for each in slow:
        assert each.connection is not None
        assert each.connection.gone.done(), "a reader that does not read was not dropped"
        assert each.count < count
    await open_all(slow, server.port)
    # Entries older than the server's memory are read from Redis for each of them.
    await eventually(lambda: all(each.count >= count for each in slow), within=_REPLAY_SECONDS)


@dataclass
class Storm:
    """The cost of many streams that connect at once."""

    streams: int
    seconds: float
    """From the kill until all had the messages that they missed."""
    commands: int
    """Commands that Redis got in that time."""


async def storm(lost: Server, left: Server, valkey: Valkey, *, streams: int, rng: Random) -> Storm:
    """Kill a server; all its streams connect to another one within a second."""
    listeners = [Listener("0-0") for _ in range(streams)]
    async with valkey.client() as redis:
        try:
            ids = await publish(redis, 3, "before")
            await open_all(listeners, lost.port)
            await eventually(lambda: all(each.count == 3 for each in listeners), within=60)
            before = await _commands(redis)
            cut_at = time.monotonic()
            lost.signal(signal.SIGKILL)
            ids += await publish(redis, 3, "missed")

            async def come_back(listener: Listener) -> None:
                await asyncio.sleep(rng.random())
                await listener.listen(left.port)

            await asyncio.gather(*(come_back(each) for each in listeners))
            await eventually(lambda: all(each.count >= 6 for each in listeners), within=60)
            seconds = time.monotonic() - cut_at
            commands = await _commands(redis) - before
            refused = [each.connection.status for each in listeners if each.connection]
            assert set(refused) == {200}, Counter(refused)
            ids += await publish(redis, 1, "after")
            await eventually(lambda: all(each.count >= 7 for each in listeners), within=60)
            expected = digest(ids)
            assert all(each.digest == expected and not each.wrong for each in listeners)
            # The heartbeats, the blocking reads, and the messages themselves.
            assert commands < 100 + 60 * seconds, f"{commands} commands for {streams} streams"
        finally:
            for each in listeners:
                each.cut()
    return Storm(streams, seconds, commands)


async def _commands(redis: Any) -> int:
    stats = await redis.info("commandstats")
    return sum(stats[name]["calls"] for name in stats if name != "cmdstat_info")


@dataclass
class Flood:
    """The answers to too many posts."""

    statuses: Counter[int]
    longest: float


async def flood(
    servers: list[Server], valkey: Valkey, *, connections: int, seconds: float
) -> Flood:
    """Post without pause, and stop Redis meanwhile: each post is answered, streams go on."""
    statuses: Counter[int] = Counter()
    acknowledged: list[str] = []
    longest = 0.0
    listener = Listener("0-0")
    until = time.monotonic() + seconds

    async def post(number: int) -> None:
        nonlocal longest
        server = servers[number % len(servers)]
        async with raw.connect(server.port) as (reader, writer):
            while time.monotonic() < until:
                started = time.monotonic()
                status, headers, body = await _exchange(reader, writer, f"flood {number}")
                longest = max(longest, time.monotonic() - started)
                statuses[status] += 1
                if status == 201:
                    acknowledged.append(json.loads(body)["id"])
                else:
                    assert headers["retry-after"].isdigit(), (status, headers)
                    await asyncio.sleep(0.2)

    async with valkey.client() as redis:
        await listener.listen(servers[0].port)
        posting = [asyncio.create_task(post(number)) for number in range(connections)]
        try:
            await asyncio.sleep(seconds / 4)
            flowing = listener.count
            valkey.freeze()
            try:
                await asyncio.sleep(_PATIENCE_SECONDS + 0.5)
            finally:
                valkey.thaw()
            await asyncio.gather(*posting)
            stored = [entry_id for entry_id, _ in await redis.xrange(EVENTS)]
            await eventually(lambda: listener.count >= len(stored), within=30)
        finally:
            for task in posting:
                task.cancel()
            await asyncio.gather(*posting, return_exceptions=True)
            listener.cut()
    assert flowing, "the stream got nothing during the flood"
    assert listener.digest == digest(stored), f"{listener.count} of {len(stored)} were delivered"
    assert set(acknowledged) <= set(stored), "acknowledged messages are not stored"
    assert len(acknowledged) == len(set(acknowledged)) == statuses[201], "two posts got one id"
    assert set(statuses) <= {201, 429, 503}, statuses
    assert longest < _PATIENCE_SECONDS + _SLACK_SECONDS, f"a request waited for {longest:.1f} s"
    return Flood(statuses, longest)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str
) -> tuple[int, dict[str, str], bytes]:
    """Post a message; return the status, the headers and the body of the answer."""
    body = json.dumps({"text": text}).encode()
    head = "POST /messages HTTP/1.1\r\nHost: guestbook\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    return (
        int(first.split()[1]),
        headers,
        await reader.readexactly(int(headers["content-length"])),
    )


@dataclass
class Idle:
    """How long a stream was idle."""

    seconds: float
    pings: int


async def idle(server: Server, valkey: Valkey, *, until: Awaitable[object], limit: float) -> Idle:
    """An idle stream, through a proxy that cuts connections that are silent for `limit`."""
    started = time.monotonic()
    listener = Listener("0-0")
    async with Proxy(server.port, idle_seconds=limit) as proxy, valkey.client() as redis:
        connection = await listener.listen(proxy.port)
        waiting = asyncio.ensure_future(until)
        await asyncio.wait((connection.gone, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not connection.gone.done(), "the proxy has cut the stream off"
        seconds = time.monotonic() - started
        assert connection.pings >= seconds // PING_SECONDS - 1
        await publish(redis, 1, "after all")
        await eventually(lambda: listener.count == 1, within=10)
        listener.cut()
    return Idle(seconds, connection.pings)
