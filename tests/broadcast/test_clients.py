"""Clients of `GET /events` that do not read, leave, or are too many."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from functools import partial
from pathlib import Path

import httpx

from tests.conftest import Serve
from tests.support.sse import EventStream, Visitor
from tests.support.valkey import redis_client
from tests.support.waiting import eventually

_EVENTS = "{guestbook}:events"


async def test_slow_readers_are_dropped_and_miss_nothing(serve: Serve, redis_url: str) -> None:
    """Clients that do not read are cut off; when they come back they have missed nothing.

    Their cursor is older than what the process has in memory, so that it is read from
    Redis, while messages are being posted.
    """
    server = await serve()
    async with server.client() as http:
        start = (await http.post("/messages", json={"text": "start"})).json()["id"]
        published: list[str] = []
        sleepers = [_sleeper(server.port, start) for _ in range(20)]
        reader = Visitor(start)
        reading = asyncio.create_task(reader.stay(server.url))
        await eventually(lambda: _has_streams(http, 21))
        memory = _resident_mib(server.pid)
        async with redis_client(redis_url) as redis:
            # 1000 characters of four bytes: the largest possible message.
            for _ in range(12):
                pipeline = redis.pipeline(transaction=False)
                for number in range(250):
                    text = f"{number:04}" + "\N{SLEEPING SYMBOL}" * 996
                    pipeline.xadd(_EVENTS, {"text": text, "pod": "x"})
                published += await pipeline.execute()
                # No faster than this client can read: only the others are slow.
                await eventually(partial(reader.has, len(published)))
        assert reader.ids == published
        assert reader.visits == 1
        await eventually(lambda: _has_streams(http, 1))
        assert _resident_mib(server.pid) - memory < 48

        back = Visitor(start)
        returning = asyncio.create_task(back.visit(server.url))
        for number in range(20):
            answer = await http.post("/messages", json={"text": f"meanwhile {number}"})
            published.append(answer.json()["id"])
        await eventually(partial(back.has, len(published)))
        await eventually(partial(reader.has, len(published)))
        assert back.ids == published
        assert reader.ids == published
        for task in (reading, returning):
            task.cancel()
        await asyncio.gather(reading, returning, return_exceptions=True)
        for sleeper in sleepers:
            sleeper.close()
    assert '"reason": "slow"' in server.lines()


async def test_clients_that_leave_while_they_are_written_to(serve: Serve, redis_url: str) -> None:
    """At whatever moment they leave: others are not disturbed, nothing fails, none is left over."""
    server = await serve()
    async with redis_client(redis_url) as redis, server.client() as http:
        reader = Visitor("0-0")
        reading = asyncio.create_task(reader.stay(server.url))
        leavers = [_sleeper(server.port, "0-0") for _ in range(200)]
        await eventually(lambda: _has_streams(http, 201))
        for number, leaver in enumerate(leavers):
            # Every other connection is reset instead of closed.
            linger = struct.pack("ii", number % 2, 0)
            leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            leaver.close()
            await redis.xadd(_EVENTS, {"text": str(number), "pod": "x"})
        await eventually(lambda: reader.has(200))
        await eventually(lambda: _has_streams(http, 1))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert reader.texts == [str(number) for number in range(200)]
    assert reader.visits == 1
    assert "Traceback" not in server.lines()


def _sleeper(port: int, cursor: str) -> socket.socket:
    """Open a stream and never read it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET /events?after={cursor} HTTP/1.1\r\nHost: guestbook\r\n\r\n".encode())
    return client


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


async def _has_streams(http: httpx.AsyncClient, number: int) -> bool:
    return f"\nguestbook_streams {number}.0\n" in (await http.get("/metrics")).text


async def test_streams_are_limited(serve: Serve) -> None:
    """Over either limit a client gets 503 and a `Retry-After` in whole seconds that varies.

    A place that becomes free can be taken again.
    """
    server = await serve(GUESTBOOK_MAX_STREAMS="5", GUESTBOOK_MAX_STREAMS_PER_ADDRESS="3")
    async with contextlib.AsyncExitStack() as stack, httpx.AsyncClient(verify=False) as http:

        async def opened(source: str) -> EventStream:
            return await stack.enter_async_context(EventStream(server.url, source=source))

        streams = [await opened("127.0.0.1") for _ in range(3)]
        assert [stream.head.status for stream in streams] == [200] * 3
        assert (await opened("127.0.0.1")).head.status == 503

        more = [await opened("127.0.0.2") for _ in range(3)]
        assert [stream.head.status for stream in more] == [200, 200, 503]

        waits = set()
        for source in ("127.0.0.1", "127.0.0.3"):
            for _ in range(15):
                async with EventStream(server.url, source=source) as stream:
                    assert stream.head.status == 503
                    assert stream.head.headers["content-type"] == "application/problem+json"
                    assert b"streams" in await stream.body()
                    waits.add(int(stream.head.headers["retry-after"]))
        assert len(waits) > 2
        assert min(waits) >= 1
        assert (await http.get(f"{server.url}/ready")).status_code == 200

        streams[0].cut()

        async def is_free() -> bool:
            return (await opened("127.0.0.1")).head.status == 200

        await eventually(is_free)
        assert (await opened("127.0.0.1")).head.status == 503
