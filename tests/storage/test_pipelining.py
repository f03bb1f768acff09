"""The client that pipelines by itself: order, errors, time limits, and no stale answers.

Redis in every state, with a server before it, is in system/test_redis_away.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError

from guestbook.storage.errors import REDIS_ERRORS
from guestbook.storage.pipelining import PipeliningRedis
from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL
from tests.support.proxy import BlackHole, Proxy
from tests.support.valkey import Valkey
from tests.support.waiting import allowed

_TIMEOUT = 1.0


def connect(address: str, timeout: float = _TIMEOUT) -> Any:
    return create_client(RedisURL.parse(address), timeout=timeout, redis_class=PipeliningRedis)


@contextlib.contextmanager
def listening(accept: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a port; `accept` is called with each connection to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def accept_all() -> None:
        with contextlib.suppress(OSError):
            while True:
                kept.append(listener.accept()[0])
                accept(kept[-1])

    thread = threading.Thread(target=accept_all)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in (listener, *kept):
            each.close()


async def test_concurrent_commands_share_one_connection(redis_url: str) -> None:
    """Each of 1000 concurrent callers gets its own answer, over one connection."""
    async with connect(redis_url) as client:
        answers = await asyncio.gather(*(client.echo(str(number)) for number in range(1000)))
        assert answers == [str(number).encode() for number in range(1000)]
        ids = await asyncio.gather(*(client.client_id() for _ in range(1000)))
        assert len(set(ids)) == 1


async def test_error_reaches_only_its_caller(redis_url: str) -> None:
    """An error of Redis, or an argument that cannot be encoded, fails no other command."""
    async with connect(redis_url) as client:
        answers = await asyncio.gather(
            client.set("text", "x"),
            client.llen("text"),
            client.get("text"),
            client.set("text", None),
            client.set("text", "\ud800"),
            client.get("text"),
            return_exceptions=True,
        )
    assert answers[0] is True
    assert isinstance(answers[1], ResponseError)
    assert isinstance(answers[3], DataError)
    assert isinstance(answers[4], UnicodeEncodeError)
    assert [answers[2], answers[5]] == [b"x", b"x"]


async def test_script_is_loaded_again(redis_url: str) -> None:
    """A script that Redis has forgotten is loaded and run, for each concurrent caller."""
    async with connect(redis_url) as client:
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        assert await script(["count"]) == 1
        await client.script_flush()
        assert sorted(await asyncio.gather(*(script(["count"]) for _ in range(5)))) == [
            *range(2, 7)
        ]


async def test_cancelled_command_is_not_sent(shared_valkey: Valkey) -> None:
    """If the caller is cancelled while a command waits for its turn, it never reaches Redis."""
    async with Proxy(shared_valkey.port) as proxy, connect(proxy.address) as client:
        await client.ping()
        proxy.swallow()
        first = asyncio.create_task(client.set("first", "x"))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(client.set("cancelled", "x"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        proxy.let_pass()
        await first
        assert await client.exists("cancelled") == 0


async def test_late_answer_is_not_taken_for_the_next(shared_valkey: Valkey) -> None:
    """After a time-out the answer that is still on its way goes to no other command."""
    async with Proxy(shared_valkey.port) as proxy, connect(proxy.address, 1) as client:
        await client.ping()
        proxy.delay = 1.3
        with pytest.raises(TimeoutError):
            await client.echo("late")
        proxy.delay = 0
        for number in range(20):
            assert await client.echo(str(number)) == str(number).encode()
            await asyncio.sleep(0.03)


async def test_no_command_takes_longer_than_twice_the_timeout() -> None:
    """No command takes longer, however many callers there are, even if connections fail sooner."""
    with BlackHole() as hole:
        async with connect(hole.address) as client:

            async def ask() -> float:
                started = time.monotonic()
                with contextlib.suppress(*REDIS_ERRORS):
                    await client.get("key")
                return time.monotonic() - started

            slowest = max(await asyncio.gather(*(ask() for _ in range(1500))))
    assert slowest < allowed(2 * _TIMEOUT)


def test_connection_that_is_closed_at_once_is_noticed() -> None:
    """As by a proxy without a server behind it: each command fails, and does not time out."""

    async def be_busy() -> None:
        while True:
            time.sleep(0.003)  # it is to hold the loop up
            await asyncio.sleep(0)

    async def ask(address: str) -> list[type[Exception]]:
        busy = asyncio.create_task(be_busy())
        errors: list[type[Exception]] = []
        async with connect(address) as client:
            for _ in range(10):
                try:
                    await client.get("key")
                except REDIS_ERRORS as error:
                    errors.append(type(error))
        busy.cancel()
        return errors

    with (
        listening(socket.socket.close) as address,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        assert runner.run(ask(address)) == [RedisConnectionError] * 10


async def test_closed_client_lets_no_command_wait() -> None:
    """Commands without an answer fail when the client is closed; later ones time out."""
    with listening(lambda _connection: None) as address:
        client = connect(address, 0.2)
        asking = asyncio.ensure_future(client.get("key"))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(RedisConnectionError, match="was closed"):
            await asking
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get("key"), 10)
        assert time.monotonic() - started < 5
        await client.aclose()


async def test_closing_fails_what_is_sent_together(shared_valkey: Valkey) -> None:
    """Closing fails the commands of the current round trip, and those that wait for the next."""
    async with Proxy(shared_valkey.port) as proxy:
        client = connect(proxy.address, 10)
        proxy.delay = 0.1
        first = asyncio.ensure_future(client.echo("first"))
        await asyncio.sleep(0)
        under_way = asyncio.ensure_future(client.echo("under way"))
        assert await first == b"first"
        waiting = asyncio.ensure_future(client.echo("waiting"))
        await asyncio.sleep(0)
        await client.aclose()
        for asking in (under_way, waiting):
            with pytest.raises(RedisConnectionError, match="was closed"):
                await asking
