"""The faults. Each is a context manager: the fault lasts until the context ends.

It yields the expected effect on readiness: the servers that are cut off from Redis, and those for
which that is uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, NamedTuple

from tests.chaos.site import EVENTS, Site
from tests.support.ports import free_port
from tests.support.proxy import BlackHole, Proxy
from tests.support.servers import Server
from tests.support.waiting import eventually

_START_SECONDS = 60.0
_SYNC_SECONDS = 30.0
_LOADING_SECONDS = 4.0


class Effect(NamedTuple):
    """The servers that cannot reach Redis, and those that may not; all others soon can."""

    cut_off: Collection[Server] = ()
    uncertain: Collection[Server] = ()


Fault = Callable[[Site, Random], AbstractAsyncContextManager[Effect]]

# Faults of a server


async def _restart(site: Site, server: Server, number: signal.Signals) -> None:
    with site.without(server):
        server.signal(number)
        await server.ended(within=_START_SECONDS)
        server.start()
        await server.ready(within=_START_SECONDS)


@contextlib.asynccontextmanager
async def server_killed(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """SIGKILL of a server, which is started again."""
    await _restart(site, rng.choice(site.mortals), signal.SIGKILL)
    yield Effect()


@contextlib.asynccontextmanager
async def server_terminated(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """SIGTERM of a server, which is started again."""
    await _restart(site, rng.choice(site.mortals), signal.SIGTERM)
    yield Effect()


@contextlib.asynccontextmanager
async def servers_rolled(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """All servers in turn, as a rolling update replaces them."""
    for server in site.mortals:
        await _restart(site, server, signal.SIGTERM)
    yield Effect()


@contextlib.asynccontextmanager
async def server_stopped(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Stop a server with SIGSTOP, like a virtual machine that is moved."""
    server = rng.choice(site.mortals)
    with site.without(server):
        server.freeze()
        try:
            yield Effect()
        finally:
            server.thaw()


# Faults of Redis


@contextlib.asynccontextmanager
async def redis_killed(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """SIGKILL of Redis, which is started again on its files."""
    site.redis.kill()
    yield Effect(cut_off=site.servers)
    await asyncio.to_thread(site.redis.start)


@contextlib.asynccontextmanager
async def redis_stopped(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """SIGSTOP of Redis: it accepts connections and answers nothing."""
    site.redis.freeze()
    try:
        yield Effect(cut_off=site.servers)
    finally:
        site.redis.thaw()


@contextlib.asynccontextmanager
async def clients_killed(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """CLIENT KILL of every connection, again and again."""
    async with site.redis.client() as redis:
        for _ in range(rng.randint(1, 10)):
            for kind in ("normal", "pubsub", "replica", "master"):
                await redis.execute_command("CLIENT", "KILL", "TYPE", kind)
            await asyncio.sleep(rng.uniform(0, 0.3))
    yield Effect()


@contextlib.asynccontextmanager
async def scripts_flushed(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """SCRIPT FLUSH: Redis drops all scripts."""
    async with site.redis.client() as redis:
        for _ in range(rng.randint(1, 10)):
            await redis.script_flush()
            await asyncio.sleep(rng.uniform(0, 0.3))
    yield Effect()


@contextlib.asynccontextmanager
async def redis_full(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Redis is out of memory (noeviction): it refuses to write."""
    async with site.redis.client() as redis:
        await redis.config_set("maxmemory", 1)
        yield Effect(cut_off=site.servers)
        await redis.config_set("maxmemory", 0)


@contextlib.asynccontextmanager
async def redis_read_only(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Redis is a replica of a missing master, and becomes a master again."""
    async with site.redis.client() as redis:
        await redis.replicaof("127.0.0.1", free_port())
        yield Effect(cut_off=site.servers)
        await redis.replicaof("NO", "ONE")


@contextlib.asynccontextmanager
async def redis_loading(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Redis is started again and takes seconds to load its files."""
    async with site.redis.client() as redis:
        added = (await redis.xinfo_stream(EVENTS))["entries-added"]
        # A post is four commands of the file: a transaction with an entry and its receipt.
        commands = added + 3 * await redis.dbsize()
    site.redis.kill()
    options = site.redis.options
    delay_us = min(2000, int(_LOADING_SECONDS * 1e6 / commands))
    site.redis.options = (*options, "--key-load-delay", str(delay_us))
    await asyncio.to_thread(site.redis.start)
    site.redis.options = options
    yield Effect(cut_off=() if await _has_loaded(site.redis) else site.servers)
    await eventually(lambda: _has_loaded(site.redis), within=_START_SECONDS)


async def _has_loaded(server: Any) -> bool:
    async with server.client() as redis:
        return not (await redis.info("persistence"))["loading"]


@contextlib.asynccontextmanager
async def failed_over(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """A fail-over to a replica; the old master becomes the replica, and soon it goes back.

    New connections lead to the new master, those that are open stay where they are.
    """
    spare = site.valkey("second")
    await asyncio.to_thread(spare.start)
    # From the second time on it has files.
    await eventually(lambda: _has_loaded(spare), within=_START_SECONDS)
    old = site.redis
    try:
        await _fail_over(site, spare)
        yield Effect()
        await _fail_over(site, old)
    finally:
        (spare if site.redis is old else old).kill()


async def _fail_over(site: Site, spare: Any) -> None:
    async with site.redis.client() as master, spare.client() as replica:

        async def has_changed() -> bool:
            roles = [(await server.role())[0] for server in (replica, master)]
            return roles == ["master", "slave"]

        await replica.replicaof("127.0.0.1", site.redis.port)
        await eventually(spare.is_in_step, within=_SYNC_SECONDS)
        # FAILOVER pauses writers until the replica has everything, and then swaps the roles.
        await master.execute_command("FAILOVER", "TO", "127.0.0.1", spare.port)
        await eventually(has_changed, within=_SYNC_SECONDS)
    site.redis = spare
    for door in site.doors.values():
        door.target = spare.port


# Faults between a server and Redis


def _choose(site: Site, rng: Random) -> tuple[Server, Proxy]:
    """Choose a server, and the proxy between it and Redis."""
    server = rng.choice(site.servers)
    return server, site.doors[server]


@contextlib.asynccontextmanager
async def network_silent(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Data does not arrive; after the fault all of it does."""
    server, door = _choose(site, rng)
    door.swallow()
    yield Effect(cut_off=[server])
    door.let_pass()


@contextlib.asynccontextmanager
async def connections_dead(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Open connections stay silent for ever, as after the restart of a router."""
    server, door = _choose(site, rng)
    door.swallow()
    yield Effect(cut_off=[server])
    door.let_new_pass()


@contextlib.asynccontextmanager
async def replies_lost(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Some replies are lost, with all later ones of that connection."""
    server, door = _choose(site, rng)
    with _losing(door, rng, 0.2):
        yield Effect(uncertain=[server])
    door.let_new_pass()


@contextlib.asynccontextmanager
async def replies_cut(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Connections break in the middle of a reply."""
    server, door = _choose(site, rng)
    door.cut_after = rng.randint(1, 30)
    with _losing(door, rng, 0.2):
        yield Effect(uncertain=[server])
    await door.cut()
    door.cut_after = None


@contextlib.contextmanager
def _losing(door: Proxy, rng: Random, share: float) -> Any:
    passing = door.loses
    door.loses = lambda _request: rng.random() < share
    try:
        yield
    finally:
        door.loses = passing


@contextlib.asynccontextmanager
async def replies_late(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """Replies take up to seconds."""
    server, door = _choose(site, rng)
    door.delay = rng.choice((0.05, 0.3, 1.0, 2.5))
    yield Effect(cut_off=[server] if door.delay > 1 else (), uncertain=[server])
    door.delay = 0
    # Data that is already delayed stays delayed.
    await door.cut()


@contextlib.asynccontextmanager
async def redis_unreachable(site: Site, rng: Random) -> AsyncIterator[Effect]:
    """New connections are neither accepted nor refused; those that were open may be cut."""
    server, door = _choose(site, rng)
    await door.refuse()
    hole = BlackHole(door.port)
    await asyncio.to_thread(hole.__enter__)
    is_cut = rng.random() < 0.7
    try:
        if is_cut:
            await door.cut()
        yield Effect(cut_off=[server] if is_cut else ())
    finally:
        hole.__exit__()
        await door.listen()


FAULTS: tuple[Fault, ...] = (
    server_killed,
    server_terminated,
    servers_rolled,
    server_stopped,
    redis_killed,
    redis_stopped,
    redis_full,
    redis_read_only,
    redis_loading,
    failed_over,
    clients_killed,
    scripts_flushed,
    network_silent,
    connections_dead,
    redis_unreachable,
    replies_lost,
    replies_cut,
    replies_late,
)
