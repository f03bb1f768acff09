"""REDIS_URL: which Redis, and the options of connections to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url

_SCHEMES = ("redis", "rediss", "unix")

# Options after the question mark of a URL.
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
# Options in URLs that were made for other programs. The guestbook sets them itself.
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
_UNREADABLE = "cannot be read: write redis://user:password@host:port/number"


@dataclass(frozen=True, slots=True, repr=False)
class RedisURL:
    """A parsed REDIS_URL. Its text has no user, password or options."""

    kind: str
    nodes: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, value: str) -> RedisURL:
        """Parse `host:port` or a URL; raise ValueError for anything else.

        Errors quote no part of the value: a password may stand anywhere in it.
        """
        url = value if "://" in value else f"redis://{value}"
        scheme, _, rest = url.partition("://")
        base, _, kind = scheme.lower().replace("valkey", "redis").partition("+")
        if base == "sentinel":
            base, kind = "redis", "sentinel"
        kinds = ("",) if base == "unix" else ("", "sentinel", "cluster")
        if base not in _SCHEMES or kind not in kinds:
            raise ValueError(
                "should be host:port, or begin with redis://, rediss://, unix://, "
                "redis+sentinel:// or redis+cluster://"
            )
        url = f"{base}://{rest}"
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(_UNREADABLE) from None
        if parts.fragment or "@" in parts.path + parts.query:
            raise ValueError(
                "cannot be read: write / ? # @ in a user or password as %2F %3F %23 %40"
            )
        if base == "unix":
            options = _options(url)
            if "path" not in options:
                raise ValueError("names no socket: write unix:///path/to/redis.sock")
            return cls("single", (), options["path"], options)
        return cls._parse_hosts(kind, parts)

    @classmethod
    def _parse_hosts(cls, kind: str, parts: SplitResult) -> RedisURL:
        credentials, _, netloc = parts.netloc.rpartition("@")
        hosts = [host for host in netloc.split(",") if host] if kind else [netloc]
        if not hosts:
            raise ValueError("names no host")
        nodes = tuple(_node(host, 26379 if kind == "sentinel" else 6379) for host in hosts)
        service, database = "", parts.path.strip("/")
        if kind == "sentinel":
            service, _, database = database.partition("/")
            if not service:
                raise ValueError("lacks the name of the master: redis+sentinel://host:26379/NAME")
        if kind == "cluster" and database:
            raise ValueError("names a database, which a Cluster does not have")
        if database and not database.isdigit():
            what = "master's name" if service else "host"
            raise ValueError(f"has something after the {what} that is not a database number")
        # The options are the same for all nodes.
        options = _options(f"{parts.scheme}://{credentials}@localhost/{database}?{parts.query}")
        del options["host"]
        return cls(kind or "single", nodes, unquote(service), options)

    def __str__(self) -> str:
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes
        )
        return "/".join(part for part in (hosts, self.service) if part)

    __repr__ = __str__


def _options(url: str) -> dict[str, Any]:
    """Return the options of a connection, checked with a connection that is never opened."""
    given = parse_qs(urlsplit(url).query, keep_blank_values=True)
    for name in sorted(given.keys() & _FILES):
        try:
            Path(given[name][0]).read_bytes()
        except OSError as error:
            raise ValueError(
                f"has the option {name}, but its file cannot be read: {error.strerror}"
            ) from None
    for name in sorted(given.keys() - _OPTIONS - _IGNORED):
        raise ValueError(
            f"has the option {name}, which is not one of {', '.join(sorted(_OPTIONS))}"
        )
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    options = {name: value for name, value in options.items() if name not in _IGNORED}
    known = {name: value for name, value in options.items() if not name.startswith("sentinel_")}
    try:
        ConnectionPool(**known).make_connection()  # type: ignore[no-untyped-call]  # redis-py
    except Exception:  # redis-py raises whatever their use raises
        raise ValueError("has an option with an invalid value") from None
    return options


def _node(host: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{host}")
        return unquote(parts.hostname or "localhost"), parts.port or default_port
    except ValueError:
        raise ValueError("has a host that is not host:port") from None
