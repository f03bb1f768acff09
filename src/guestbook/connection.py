"""Where Redis is, and how its clients behave: from what users write in REDIS_URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

Client = Redis | RedisCluster

# Whatever a command may raise when Redis is away, overloaded or in a state that it cannot serve.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed REDIS_URL; `str()` gives it without user, password and options."""

    kind: str
    nodes: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, value: str) -> RedisAddress:
        """Reads `host:port` or a URL; ValueError, without the password, for anything else."""
        url = value if "://" in value else f"redis://{value}"
        scheme, _, rest = url.partition("://")
        base, _, kind = scheme.lower().partition("+")
        if base == "sentinel":
            base, kind = "redis", "sentinel"
        if base not in _SCHEMES or kind not in ("", "sentinel", "cluster"):
            raise ValueError(
                f"{scheme}:// is not known: use host:port, redis://, rediss://, unix://, "
                "redis+sentinel:// or redis+cluster://"
            )
        if kind:
            return cls._parse_nodes(kind, f"{_SCHEMES[base]}://{rest}")
        return cls._parse_single(f"{_SCHEMES[base]}://{rest}")

    @classmethod
    def _parse_single(cls, url: str) -> RedisAddress:
        options = _options(url)
        database = urlsplit(url).path.strip("/")
        if url.startswith("unix://"):
            if "path" not in options:
                raise ValueError("names no socket: write unix:///path/to/redis.sock")
            return cls("single", (), options["path"], options)
        if database and not database.isdigit():
            raise ValueError(f"/{database} is not a database number")
        node = (options.get("host", "localhost"), options.get("port", 6379))
        return cls("single", (node,), "", options)

    @classmethod
    def _parse_nodes(cls, kind: str, url: str) -> RedisAddress:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        default_port = 26379 if kind == "sentinel" else 6379
        nodes = tuple(_node(host, default_port) for host in hosts.split(",") if host)
        if not nodes:
            raise ValueError("names no host")
        service, _, database = parts.path.strip("/").partition("/")
        if kind == "sentinel" and not service:
            raise ValueError("lacks the name of the master: redis+sentinel://host:26379/NAME")
        path = f"/{database}" if kind == "sentinel" and database else ""
        at = f"{credentials}@" if credentials else ""
        options = _options(f"{parts.scheme}://{at}{nodes[0][0]}{path}?{parts.query}")
        return cls(kind, nodes, unquote(service), options)

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.nodes)
        return "/".join(part for part in (hosts, self.service) if part)

    def client(self, *, timeout: float, max_connections: int = 4) -> Client:
        """A client that gives up after `timeout` seconds without an answer and never retries.

        Whether a command may be sent again is for the caller to know.
        """
        options = {
            **self.options,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if self.kind == "single":
            pool = BlockingConnectionPool(
                max_connections=max_connections, timeout=timeout, **options
            )
            return Redis.from_pool(pool)
        is_tls = options.pop("connection_class", None) is not None
        options.pop("host", None)
        if is_tls:
            options["ssl"] = True
        if self.kind == "sentinel":
            return self._sentinel_master(options, timeout)
        options.pop("db", None)
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self.nodes], **options
        )

    def _sentinel_master(self, options: dict[str, Any], timeout: float) -> Redis:
        own = {
            name.removeprefix("sentinel_"): options.pop(name)
            for name in ("sentinel_username", "sentinel_password")
            if name in options
        }
        own |= {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2}
        own["retry"] = Retry(NoBackoff(), 0)
        sentinel = Sentinel(list(self.nodes), sentinel_kwargs=own, **options)  # type: ignore[no-untyped-call]  # redis-py
        return cast("Redis", sentinel.master_for(self.service))


def _options(url: str) -> dict[str, Any]:
    """The options of one connection, checked by making a connection that is never opened."""
    options: dict[str, Any]
    try:
        options = dict(parse_url(url))
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("cannot be read: write redis://user:password@host:port/number") from None
    known = {name: value for name, value in options.items() if not name.startswith("sentinel_")}
    try:
        BlockingConnectionPool(**known).make_connection()  # type: ignore[no-untyped-call]  # redis-py
    except TypeError:
        names = ", ".join(sorted(parse_qs(parts.query)))
        raise ValueError(f"has an option that is not known (of: {names})") from None
    return options


def _node(host: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        return parts.hostname or "localhost", parts.port or default_port
    except ValueError:
        raise ValueError(f"{host} is not host:port") from None
