"""Finding the server: names that DNS does not answer, and names with several addresses.

Each kind of Redis, with a server before it, is in test_topologies.py and test_failover.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from guestbook.storage.errors import REDIS_ERRORS, explain
from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL
from tests.support.proxy import BlackHole
from tests.support.valkey import Valkey

_NAME = "redis.test"


def _resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str, seconds: float = 0) -> None:
    """Let DNS take so long for the name, and answer with these addresses."""
    known = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != _NAME:
            return known(host, port, *args, **options)
        time.sleep(seconds)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for each in addresses for found in known(each, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_silent_dns_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If DNS does not answer, the error names it before the time for connecting is over."""
    _resolve(monkeypatch, seconds=4)
    async with create_client(RedisURL.parse(_NAME), timeout=4) as client:
        started = time.monotonic()
        with pytest.raises(REDIS_ERRORS) as raised:
            await client.ping()
    assert time.monotonic() - started < 3
    assert explain(raised.value) == f"DNS did not answer in time for {_NAME}:6379"


class _SilentLoop(uvloop.Loop):
    """A loop whose lookups take a second and then fail, as where DNS does not answer."""

    async def getaddrinfo(self, *_args: Any, **_options: Any) -> Any:
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 1)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize(
    "url", [_NAME, f"redis+sentinel://{_NAME}:6379/main", f"redis+cluster://{_NAME}"]
)
def test_silent_dns_leaves_nothing_behind_on_uvloop(url: str) -> None:
    """For each kind of Redis the error names DNS, and the loop has nothing to complain of."""
    complaints: list[dict[str, Any]] = []

    async def ask() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        async with create_client(RedisURL.parse(url), timeout=1) as client:
            with pytest.raises(REDIS_ERRORS) as raised:
                await client.ping()
        reason = explain(raised.value)
        del raised
        await loop.shutdown_default_executor()
        gc.collect()
        await asyncio.sleep(0)
        return reason

    with asyncio.Runner(loop_factory=_SilentLoop) as runner:
        assert f"DNS did not answer in time for {_NAME}:6379" in runner.run(ask())
    assert complaints == []


# TLS on one side only


@pytest.mark.parametrize("kind", ["", "+sentinel", "+cluster"])
async def test_server_without_tls_is_suspected(shared_valkey: Valkey, kind: str) -> None:
    """If `rediss://` gets no answer, the error asks whether the port has TLS."""
    path = "/main" if kind == "+sentinel" else ""
    url = RedisURL.parse(f"rediss{kind}://{shared_valkey.address}{path}")
    async with create_client(url, timeout=1) as client:
        with pytest.raises(REDIS_ERRORS) as raised:
            await client.ping()
    assert "does it speak TLS on this port?" in explain(raised.value)


@pytest.mark.parametrize(
    ("scheme", "answer", "expected"),
    [
        ("rediss", b"-ERR unknown command\r\n", "it does not speak TLS on this port"),
        ("redis", b"\x15\x03\x01\x00\x02\x02\x46", "it wants TLS: write rediss://"),
        ("redis", b"", "Redis may want TLS (rediss://)"),
    ],
)
async def test_tls_on_one_side_is_named(scheme: str, answer: bytes, expected: str) -> None:
    """A server that answers TLS as a command, or a command as TLS, is recognised."""

    async def misunderstand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(misunderstand, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with create_client(RedisURL.parse(f"{scheme}://{host}:{port}"), timeout=1) as client:
            with pytest.raises(REDIS_ERRORS) as raised:
                await client.ping()
    assert expected in explain(raised.value)


# Names


async def test_unknown_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that DNS does not know is an error in the words of the system."""
    _resolve(monkeypatch)
    async with create_client(RedisURL.parse(_NAME), timeout=1) as client:
        with pytest.raises(RedisConnectionError) as raised:
            await client.ping()
    expected = f"Error -2 connecting to {_NAME}:6379. Name or service not known."
    assert explain(raised.value) == expected


async def test_silent_address_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, shared_valkey: Valkey
) -> None:
    """If a name has two addresses and the first does not answer, the second is used."""
    _resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    url = RedisURL.parse(f"{_NAME}:{shared_valkey.port}")
    with BlackHole(shared_valkey.port, "127.0.0.2"):
        async with create_client(url, timeout=1) as client:
            with pytest.raises(REDIS_ERRORS):
                await client.ping()
            assert await client.ping()


async def test_each_connection_is_announced(shared_valkey: Valkey) -> None:
    """`on_connect` is called with the first connection, and with one that replaces it."""
    calls: list[None] = []
    url = RedisURL.parse(shared_valkey.address)
    client = create_client(url, timeout=1, on_connect=lambda: calls.append(None))
    async with client, shared_valkey.client() as admin:
        await client.ping()
        await client.ping()
        assert len(calls) == 1
        await admin.client_kill_filter(_id=await client.client_id())
        await client.ping()
        assert len(calls) == 2


async def test_cancelled_read_is_not_answered_later(redis_url: str) -> None:
    """A blocking read that is given up leaves no answer for the next command."""
    async with create_client(RedisURL.parse(redis_url), timeout=5) as client:
        for number in range(3):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.blpop(["list"], timeout=1)
            assert await client.echo(str(number)) == str(number).encode()


def test_write_to_a_connection_that_was_just_lost_is_an_error_of_redis() -> None:
    """uvloop reports it as a RuntimeError; a post must try again, and the heartbeat go on."""
    error = RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")
    assert isinstance(error, REDIS_ERRORS)
    assert explain(error).startswith("the connection was closed")
