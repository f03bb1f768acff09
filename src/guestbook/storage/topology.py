"""Clients for each kind of Redis: a single server, one behind Sentinel, a Cluster."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import parse_cluster_slots
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError
from redis.exceptions import TimeoutError as RedisTimeoutError

from guestbook.storage.errors import FAILOVER_ERRORS, NO_TLS, REDIS_ERRORS, explain
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

    Only callers know whether a command may be sent again. `on_connect` is called for each new
    connection. Answers are bytes.
    """
    options = {
        **url.options,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "protocol": 2,
        # Sending the library's name would cost a round trip for each connection.
        "driver_info": None,
        # Nothing is retried, but the connection is closed after these errors.
        "retry": Retry(NoBackoff(), 0, (RedisConnectionError, RedisTimeoutError, *FAILOVER_ERRORS)),
    }
    sentinels = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if on_connect is not None:
        options["redis_connect_func"] = _and_call(on_connect)
    if url.kind == "sentinel":
        locate: Locate = Discovery(url, {**_for_discovery(options), **sentinels})
    elif url.kind == "cluster":
        locate = Discovery(url, _for_discovery(options))
        redis_class = ClusterRedis if redis_class is Redis else redis_class
    elif url.nodes:
        locate = NameLookup(*url.nodes[0], is_tls=_is_tls(options))
    else:  # a socket
        return redis_class.from_pool(ConnectionPool(**options))
    return redis_class.from_pool(LocatingPool(locate, **options))


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


def _is_tls(options: Mapping[str, Any]) -> bool:
    return options.get("connection_class") is SSLConnection


class LocatingPool(ConnectionPool):
    """Connections to a server that is looked up before each connection."""

    def __init__(self, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self.locate = locate
        self._timeouts = 0

    async def ensure_connection(self, connection: Any) -> None:
        """Connect if necessary, to where the server is now."""
        try:
            if not connection.is_connected:
                connection.host, connection.port = await self.locate(self._timeouts)
            await super().ensure_connection(connection)
        except (RedisTimeoutError, asyncio.CancelledError) as error:
            self._timeouts += 1
            is_connecting = str(error).startswith("Timeout connecting")
            if is_connecting and isinstance(connection, SSLConnection):
                raise RedisTimeoutError(NO_TLS) from error
            raise
        self._timeouts = 0


class NameLookup:
    """Look up a host name before it is connected to.

    The lookup has a time limit of its own, so that an error can name DNS as the reason. A cancelled
    lookup leaves nothing behind, unlike uvloop's own while connecting.
    """

    def __init__(
        self, host: str, port: int, *, is_tls: bool, seconds: float = _LOOKUP_TIMEOUT
    ) -> None:
        self._host = host
        self._port = port
        self._is_tls = is_tls
        self._seconds = seconds

    async def __call__(self, timeouts: int) -> Address:
        """Return the name, or one of its addresses in turn while connecting times out.

        asyncio tries the addresses of a name one after the other: if the first is silent, the
        others are not reached in time.
        """
        loop = asyncio.get_running_loop()
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._seconds):
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


class Discovery:
    """Ask Sentinels, or nodes of a Cluster, in turn where the master is.

    redis-py's own clients look up names while they connect. Besides, its Sentinel client hides the
    reasons of errors, and its Cluster client needs the right to run COMMAND.
    """

    def __init__(self, url: RedisURL, options: dict[str, Any]) -> None:
        self._url = url
        self._nodes = deque(url.nodes)
        self._options = options
        self._is_tls = _is_tls(options)
        is_cluster = url.kind == "cluster"
        self._ask = self._ask_node if is_cluster else self._ask_sentinel
        self._asked = "node of the Cluster" if is_cluster else "Sentinel"

    async def __call__(self, timeouts: int) -> Address:
        """Return the first answer among the servers that are known."""
        reason: Exception | None = None
        for server in tuple(self._nodes):
            # Ask another one first next time: this one may hang, or not know of a fail-over yet.
            self._nodes.rotate(-1)
            try:
                async with Redis.from_pool(self.connect(server)) as redis:
                    master = await self._ask(redis, server)
            except REDIS_ERRORS as error:
                reason = error
            else:
                return await NameLookup(*master, is_tls=self._is_tls)(timeouts)
        why = reason and explain(reason)
        raise RedisConnectionError(f"no {self._asked} names the master: {why}")

    def connect(self, server: Address) -> ConnectionPool:
        """Return connections to one of the servers."""
        lookup = NameLookup(*server, is_tls=self._is_tls, seconds=_DISCOVERY_TIMEOUT)
        return LocatingPool(lookup, **self._options)

    async def _ask_sentinel(self, redis: Any, sentinel: Address) -> Address:
        state = await redis.sentinel_master(self._url.service)
        if not state["is_master"] or state["is_sdown"] or state["is_odown"]:
            host, port = sentinel
            raise RedisConnectionError(f"the Sentinel at {host}:{port} considers it down")
        return state["ip"], state["port"]

    async def _ask_node(self, redis: Any, node: Address) -> Address:
        """Return the node with the guestbook's keys, which are all in one slot."""
        answer = await redis.execute_command("CLUSTER SLOTS")
        asked, _ = node
        master: Address | None = None
        known = dict.fromkeys(self._url.nodes)
        for (first, last), found in parse_cluster_slots(answer, current_host=asked).items():
            # A node that does not know a host name calls it "?".
            here = [
                (asked if name == "?" else name, number)
                for name, number in (found["primary"], *found["replicas"])
            ]
            known.update(dict.fromkeys(here))
            if first <= _SLOT <= last:
                master = here[0]
        if master is None:
            raise RedisConnectionError(f"slot {_SLOT} of the Cluster is on no node")
        still_there = [each for each in self._nodes if each in known]
        self._nodes = deque(dict.fromkeys([*still_there, *known]))
        return master


class ClusterRedis(Redis):
    """A client of the node with the guestbook's keys; for other keys it asks their node."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the answer to a command, or raise its error."""
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
        except MovedError as moved:
            if moved.slot_id == _SLOT:
                raise
            pool = self.connection_pool
            there = {**pool.connection_kwargs, "host": moved.host, "port": moved.port}
            async with Redis.from_pool(ConnectionPool(pool.connection_class, **there)) as other:
                return await other.execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
