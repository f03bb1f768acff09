"""The client whose commands share round trips: nobody waits for ever, whatever is at the other end.

Redis itself, in every state, is in test_redis_away.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from guestbook.storage.url import REDIS_ERRORS, RedisURL
from tests.support.proxy import BlackHole

_PATIENCE = 1.0


@contextlib.contextmanager
def answered(by: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a port where this is done to each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                kept.append(listener.accept()[0])
                by(kept[-1])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in (listener, *kept):
            each.close()


async def test_nobody_waits_for_longer_than_twice_the_patience() -> None:
    """However many ask, and though each connection fails sooner than that."""
    with BlackHole() as hole:
        async with RedisURL.parse(hole.address).client(timeout=_PATIENCE) as client:

            async def ask() -> float:
                started = time.monotonic()
                with contextlib.suppress(*REDIS_ERRORS):
                    await client.get("key")
                return time.monotonic() - started

            slowest = max(await asyncio.gather(*(ask() for _ in range(1500))))
    # Half a patience more is for a machine that is busy.
    assert slowest < 2.5 * _PATIENCE


def test_connection_that_is_closed_at_once_is_noticed() -> None:
    """As by a proxy that has nobody behind it: also where that is known before it is looked at.

    The program's own loop reads before it goes on with what waited for the connection.
    """

    async def be_busy() -> None:
        while True:
            time.sleep(0.003)  # it is to hold the loop up
            await asyncio.sleep(0)

    async def ask(address: str) -> list[type[Exception]]:
        busy = asyncio.create_task(be_busy())
        told: list[type[Exception]] = []
        async with RedisURL.parse(address).client(timeout=_PATIENCE) as client:
            for _ in range(10):
                try:
                    await client.get("key")
                except REDIS_ERRORS as error:
                    told.append(type(error))
        busy.cancel()
        return told

    with (
        answered(socket.socket.close) as address,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        assert runner.run(ask(address)) == [RedisConnectionError] * 10


async def test_client_that_was_closed_still_gives_up() -> None:
    """Who is waiting then hears of it, and who asks all the same does not wait for ever."""
    with answered(lambda _connection: None) as address:
        client = RedisURL.parse(address).client(timeout=0.2)
        asking = asyncio.ensure_future(client.get("key"))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(RedisConnectionError, match="hung up"):
            await asking
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get("key"), 10)
        assert time.monotonic() - started < 5
        await client.aclose()
