"""Clients for each kind of Redis: a single server, one behind Sentinel, a Cluster."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from redis.asyncio import ConnectionPool, Redis, Sentinel
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.cluster import parse_cluster_slots
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError
from redis.exceptions import TimeoutError as RedisTimeoutError

from guestbook.storage.errors import FAILOVER_ERRORS, REDIS_ERRORS
from guestbook.storage.url import RedisURL

HASH_TAG = "{guestbook}"
_SLOT = key_slot(HASH_TAG.encode())

CONNECT_TIMEOUT = 0.75
"""Seconds for connecting: readiness has to notice within 2 seconds that it is not possible."""
_LOOKUP_TIMEOUT = 0.5
# A Sentinel or node that hangs must leave time to ask the others.
_DISCOVERY_TIMEOUT = 0.2

Address = tuple[str, int]
Locate = Callable[[int], Awaitable[Address]]
"""Return where to connect to, after so many attempts in a row that timed out."""


def create_client(
    url: RedisURL,
    *,
    timeout: float,
    on_connect: Callable[[], None] | None = None,
    redis_class: type[Redis] = Redis,
) -> Redis:
    """Return a client that fails after `timeout` seconds without an answer and never retries.

    Only the caller knows whether a command may be sent again. `on_connect` is called whenever a
    connection has been made. Answers are bytes.
    """
    options = {
        **url.options,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "protocol": 2,
        # Sending the name of the library would cost a round trip for each connection.
        "driver_info": None,
        # No attempt is repeated; but after these errors the connection is closed.
        "retry": Retry(NoBackoff(), 0, (RedisConnectionError, RedisTimeoutError, *FAILOVER_ERRORS)),
    }
    sentinels = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if on_connect is not None:
        options["redis_connect_func"] = _and_call(on_connect)
    is_tls = options.get("connection_class") is SSLConnection
    if url.kind == "sentinel":
        options.pop("connection_class", None)
        asking = {**_for_discovery(options), **sentinels, "ssl": is_tls}
        return Sentinel(url.nodes, sentinel_kwargs=asking).master_for(  # type: ignore[no-any-return, no-untyped-call]  # redis-py
            url.service, redis_class, MasterPool, ssl=is_tls, **options
        )
    if url.kind == "cluster":
        pool = LocatingPool(ClusterNodes(url.nodes, **_for_discovery(options)), **options)
        return (ClusterRedis if redis_class is Redis else redis_class).from_pool(pool)
    if not url.nodes:  # a socket
        return redis_class.from_pool(ConnectionPool(**options))
    return redis_class.from_pool(LocatingPool(NameLookup(*url.nodes[0], is_tls=is_tls), **options))


def _and_call(on_connect: Callable[[], None]) -> Callable[[AbstractConnection], Awaitable[None]]:
    """Return redis-py's preparation of a new connection, followed by a callback."""

    async def prepare(connection: AbstractConnection) -> None:
        await connection.on_connect()
        on_connect()

    return prepare


def _for_discovery(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for connections to Sentinels and to the nodes of a Cluster."""
    kept = {k: v for k, v in options.items() if k not in ("db", "redis_connect_func")}
    timeouts = ("socket_timeout", "socket_connect_timeout")
    return {**kept, **dict.fromkeys(timeouts, _DISCOVERY_TIMEOUT)}


class MasterPool(SentinelConnectionPool):
    """Connections to the master that the Sentinels name."""

    async def aclose(self) -> None:
        """Close these connections and those to the Sentinels."""
        await super().aclose()
        await self.sentinel_manager.aclose()


class LocatingPool(ConnectionPool):
    """Connections to a server that is located before each of them is made."""

    def __init__(self, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate
        self._timeouts = 0

    async def ensure_connection(self, connection: Any) -> None:
        """Connect if necessary, to where the server is now."""
        try:
            if not connection.is_connected:
                connection.host, connection.port = await self._locate(self._timeouts)
            await super().ensure_connection(connection)
        except (RedisTimeoutError, asyncio.CancelledError):
            self._timeouts += 1
            raise
        self._timeouts = 0


class NameLookup:
    """Look up a host name before it is connected to.

    The lookup has a time limit of its own, so that an error names DNS as its reason; and one that
    was given up leaves nothing behind, which uvloop's own lookup while connecting does.
    """

    def __init__(self, host: str, port: int, *, is_tls: bool) -> None:
        self._host = host
        self._port = port
        self._is_tls = is_tls

    async def __call__(self, timeouts: int) -> Address:
        """Return the name, or one of its addresses in turn while connecting times out.

        Connecting to a name takes its addresses one after the other: if the first is silent, the
        others are never reached in time.
        """
        loop = asyncio.get_running_loop()
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise RedisTimeoutError(f"DNS did not answer in time for {where}") from None
        except socket.gaierror as error:
            reason = f"Error {error.errno} connecting to {where}. {error.strerror}."
            raise RedisConnectionError(reason) from error
        first, *others = dict.fromkeys(str(address[0]) for *_, address in found)
        # A certificate is checked against the name.
        if not others or self._is_tls:
            return self._host, self._port
        choices = (self._host, *others, first)
        return choices[timeouts % len(choices)], self._port


class ClusterNodes:
    """Find the node of a Cluster that has the guestbook's keys, which are all in one slot.

    `RedisCluster` would do so too, but also runs COMMAND, which needs one more right.
    """

    def __init__(self, nodes: Iterable[Address], **options: Any) -> None:
        self._given = tuple(nodes)
        self._nodes = deque(self._given)
        self._options = options

    async def __call__(self, _timeouts: int) -> Address:
        """Return the first answer among the nodes that are known."""
        reason: Exception | None = None
        for node in tuple(self._nodes):
            # Next time another is asked first: this one may hang, or not know of a fail-over yet.
            self._nodes.rotate(-1)
            try:
                return await self._ask(*node)
            except REDIS_ERRORS as error:
                reason = error
        raise RedisConnectionError(f"no node of the Cluster names the master: {reason}")

    async def _ask(self, host: str, port: int) -> Address:
        pool = ConnectionPool(**self._options, host=host, port=port)
        async with Redis.from_pool(pool) as redis:
            answer = await redis.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]  # redis-py
        master: Address | None = None
        known = dict.fromkeys(self._given)
        for (first, last), node in parse_cluster_slots(answer, current_host=host).items():
            # A node that does not know a host name calls it "?".
            here = [
                (host if name == "?" else name, number)
                for name, number in (node["primary"], *node["replicas"])
            ]
            known.update(dict.fromkeys(here))
            if first <= _SLOT <= last:
                master = here[0]
        if master is None:
            raise RedisConnectionError(f"slot {_SLOT} of the Cluster is on no node")
        still_there = [node for node in self._nodes if node in known]
        self._nodes = deque(dict.fromkeys([*still_there, *known]))
        return master


class ClusterRedis(Redis):
    """A client of the node that has the guestbook's keys; for other keys it asks their node."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the answer to a command, or raise its error."""
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
        except MovedError as moved:
            if moved.slot_id == _SLOT:
                raise
            there = {
                **self.connection_pool.connection_kwargs,
                "host": moved.host,
                "port": moved.port,
            }
            pool = ConnectionPool(self.connection_pool.connection_class, **there)
            async with Redis.from_pool(pool) as other:
                return await other.execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
