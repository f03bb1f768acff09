"""Where Redis is, and how its clients behave: from what users write in REDIS_URL."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from guestbook.storage.client import ClusterRedis, PipeliningRedis
from guestbook.storage.topology import (
    ClusterNodes,
    MasterConnection,
    Sentinels,
    TLSMasterConnection,
)

# Whatever a command may raise when Redis is away, overloaded or in a state that it cannot serve.
REDIS_ERRORS = (RedisError, OSError, TimeoutError)

# What TLS says in its own words where a certificate is missing or wrong, and what that means.
_TLS_MEANINGS = {
    "alert certificate required": "it asks for a certificate: name one with ssl_certfile and "
    "ssl_keyfile",
    "alert unknown ca": "it does not know the authority that signed the certificate of "
    "ssl_certfile",
    "alert certificate expired": "the certificate of ssl_certfile has expired",
    "certificate has expired": "its certificate has expired",
    "mismatch, certificate": "its certificate is for another host name",
    "certificate verify failed": "its certificate is not signed by an authority that is trusted: "
    "name the one that did with ssl_ca_certs",
    # The alert of TLS 1.3 about a missing certificate may be lost with the connection.
    "Connection reset by peer": "it cut the connection: if it always does, it may want TLS "
    "(rediss://) or a certificate (ssl_certfile, ssl_keyfile)",
}


def explain(error: Exception) -> str:
    """Why a command failed, for who reads it."""
    said = str(error) or "it did not answer in time"
    for words, meaning in _TLS_MEANINGS.items():
        if words in said:
            return meaning
    return said


CONNECT_TIMEOUT = 0.75
"""Seconds for a connection to be made: readiness has to notice within 2 seconds that it cannot."""

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}

_SENTINELS_OWN = {"sentinel_username": "username", "sentinel_password": "password"}

# What a URL may say after its question mark.
_OPTIONS = frozenset(
    {
        "client_name",
        "db",
        "password",
        "sentinel_password",
        "sentinel_username",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
        "username",
    }
)
_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
# What URLs made for other programs may say too: how to wait, retry and decode is ours to choose.
_IGNORED = frozenset(
    {
        "decode_responses",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "timeout",
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class RedisURL:
    """A parsed REDIS_URL; as text it is without user, password and options."""

    kind: str
    nodes: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, value: str) -> RedisURL:
        """Reads `host:port` or a URL; ValueError for anything else.

        No error quotes a part of the value that may hold a password, be it in a wrong place.
        """
        url = value if "://" in value else f"redis://{value}"
        scheme, _, rest = url.partition("://")
        base, _, kind = scheme.lower().partition("+")
        if base == "sentinel":
            base, kind = "redis", "sentinel"
        if base not in _SCHEMES or kind not in ("", "sentinel", "cluster"):
            raise ValueError(
                "should be host:port, or begin with redis://, rediss://, unix://, "
                "redis+sentinel:// or redis+cluster://"
            )
        url = f"{_SCHEMES[base]}://{rest}"
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(_UNREADABLE) from None
        if parts.fragment or "@" in parts.path + parts.query:
            raise ValueError(
                "cannot be read: write / ? # @ in a user or password as %2F %3F %23 %40"
            )
        return cls._parse_nodes(kind, parts) if kind else cls._parse_single(url, parts)

    @classmethod
    def _parse_single(cls, url: str, parts: SplitResult) -> RedisURL:
        options = _options(url, parts)
        if parts.scheme == "unix":
            if "path" not in options:
                raise ValueError("names no socket: write unix:///path/to/redis.sock")
            return cls("single", (), options["path"], options)
        if parts.path.strip("/") and not parts.path.strip("/").isdigit():
            raise ValueError("has something after the host that is not a database number")
        node = (options.get("host", "localhost"), options.get("port", 6379))
        return cls("single", (node,), "", options)

    @classmethod
    def _parse_nodes(cls, kind: str, parts: SplitResult) -> RedisURL:
        credentials, _, hosts = parts.netloc.rpartition("@")
        default_port = 26379 if kind == "sentinel" else 6379
        nodes = tuple(_node(host, default_port) for host in hosts.split(",") if host)
        if not nodes:
            raise ValueError("names no host")
        service, _, database = parts.path.strip("/").partition("/")
        if kind == "sentinel" and not service:
            raise ValueError("lacks the name of the master: redis+sentinel://host:26379/NAME")
        if kind == "cluster" and service:
            raise ValueError("names a database, which a Cluster does not have")
        if database and not database.isdigit():
            raise ValueError("has something after the master's name that is not a database number")
        # All nodes share what is said once; which of them is asked is decided later.
        one = f"{parts.scheme}://{credentials}@localhost/{database}?{parts.query}"
        options = _options(one, urlsplit(one))
        del options["host"]
        return cls(kind, nodes, unquote(service), options)

    def __str__(self) -> str:
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes
        )
        return "/".join(part for part in (hosts, self.service) if part)

    __repr__ = __str__

    def client(
        self, *, timeout: float, on_connect: Callable[[], None] | None = None
    ) -> PipeliningRedis:
        """A client that gives up after `timeout` seconds without an answer and never retries.

        Whether a command may be sent again is for the caller to know. `on_connect` is called with
        each connection that is made.
        """
        options = {
            **self.options,
            # The client itself watches over its connection's time.
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            # Telling Redis which library this is would be one more way there and back.
            "driver_info": None,
        }
        if on_connect is not None:
            options["redis_connect_func"] = _telling(on_connect)
        if self.kind == "single":
            return PipeliningRedis(ConnectionPool(**options), timeout=timeout)
        is_tls = options.pop("connection_class", None) is SSLConnection
        own = {theirs: options.pop(ours, None) for ours, theirs in _SENTINELS_OWN.items()}
        not_theirs = ("db", "redis_connect_func")
        asking = {name: value for name, value in options.items() if name not in not_theirs}
        asking["connection_class"] = SSLConnection if is_tls else Connection
        asking["socket_timeout"] = CONNECT_TIMEOUT
        options["connection_class"] = TLSMasterConnection if is_tls else MasterConnection
        if self.kind == "cluster":
            nodes = ClusterNodes(self.nodes, **asking)
            pool = ConnectionPool(guides=nodes, **options)
            return ClusterRedis(pool, timeout=timeout, guides=nodes)
        sentinels = Sentinels(self.service, self.nodes, **{**asking, **own})
        pool = ConnectionPool(guides=sentinels, **options)
        return PipeliningRedis(pool, timeout=timeout, guides=sentinels)


def _telling(
    on_connect: Callable[[], None],
) -> Callable[[AbstractConnection], Coroutine[Any, Any, None]]:
    """What redis-py has to do with a new connection in order to tell of it too."""

    async def greet(connection: AbstractConnection) -> None:
        await connection.on_connect()
        on_connect()

    return greet


_UNREADABLE = "cannot be read: write redis://user:password@host:port/number"


def _options(url: str, parts: SplitResult) -> dict[str, Any]:
    """The options of one connection, checked by making a connection that is never opened."""
    given = parse_qs(parts.query, keep_blank_values=True)
    for name in sorted(given.keys() & _FILES):
        try:
            Path(given[name][0]).read_bytes()
        except OSError as error:
            raise ValueError(
                f"has the option {name}, whose file cannot be read: {error.strerror}"
            ) from None
    for name in sorted(given.keys() - _OPTIONS - _IGNORED):
        raise ValueError(
            f"has the option {name}, which is not one of {', '.join(sorted(_OPTIONS))}"
        )
    try:
        _ = parts.port
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    options = {name: value for name, value in options.items() if name not in _IGNORED}
    known = {name: value for name, value in options.items() if not name.startswith("sentinel_")}
    try:
        ConnectionPool(**known).make_connection()  # type: ignore[no-untyped-call]  # redis-py
    except Exception:  # redis-py refuses values with whatever their use raises
        raise ValueError("has an option whose value is not usable") from None
    return options


def _node(host: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        return parts.hostname or "localhost", parts.port or default_port
    except ValueError:
        raise ValueError("has a host that is not host:port") from None
