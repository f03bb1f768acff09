"""REDIS_URL: the forms that users write; no password is shown."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL
from tests.support.valkey import Valkey

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("redis:6379", "redis", 6379),
        ("redis", "redis", 6379),
        ("localhost:7000", "localhost", 7000),
        ("10.96.0.7:6380", "10.96.0.7", 6380),
        ("[::1]:6381", "::1", 6381),
        ("redis://redis", "redis", 6379),
        ("redis://redis/", "redis", 6379),
        ("redis://redis:6382", "redis", 6382),
        ("redis://[fd00::7]:6383/1", "fd00::7", 6383),
        ("REDIS://redis:6384", "redis", 6384),
        ("rediss://redis:6385", "redis", 6385),
        ("valkey://redis:6386", "redis", 6386),
        ("redis://:6387", "localhost", 6387),
    ],
)
def test_host_and_port_are_read(written: str, host: str, port: int) -> None:
    """A bare address as the original took it, and a URL, name one host and one port."""
    address = RedisURL.parse(written)
    assert (address.kind, address.nodes) == ("single", ((host, port),))
    assert isinstance(create_client(address, timeout=1), Redis)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("redis:6379/3", {"db": 3}),
        ("redis://redis/0", {"db": 0}),
        ("redis://redis?db=5", {"db": 5}),
        (f"redis://:{SECRET}@redis:6379/2", {"password": SECRET, "db": 2}),
        (f"redis://ada:{SECRET}@redis", {"username": "ada", "password": SECRET}),
        (f"ada:{SECRET}@redis:6379", {"username": "ada", "password": SECRET}),
        ("redis://ada:p%40ss%2Fw%3Frd@redis", {"username": "ada", "password": "p@ss/w?rd"}),
        (f"redis://redis?password={SECRET}", {"password": SECRET}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        (f"unix://ada:{SECRET}@/run/redis.sock?db=4", {"path": "/run/redis.sock", "db": 4}),
    ],
)
def test_user_password_and_database_are_read(written: str, expected: dict[str, Any]) -> None:
    """User, password, database and socket in a URL reach the client."""
    client = create_client(RedisURL.parse(written), timeout=1)
    assert isinstance(client, Redis)
    given = client.connection_pool.connection_kwargs
    assert {name: given[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("written", "connection"),
    [
        ("rediss://redis", SSLConnection),
        ("valkeys://redis", SSLConnection),
        ("unix:///run/redis.sock", UnixDomainSocketConnection),
    ],
)
def test_scheme_chooses_the_kind_of_connection(written: str, connection: type) -> None:
    """`rediss://` means TLS, `unix://` a socket."""
    url = RedisURL.parse(written)
    client = create_client(url, timeout=1)
    assert isinstance(client, Redis)
    assert issubclass(client.connection_pool.connection_class, connection)
    assert url.kind == "single"


@pytest.mark.parametrize(
    ("written", "nodes", "service"),
    [
        ("redis+sentinel://one/master", (("one", 26379),), "master"),
        ("sentinel://one:1/master", (("one", 1),), "master"),
        (
            f"redis+sentinel://:{SECRET}@one:1,two,three:3/my%20master/2",
            (("one", 1), ("two", 26379), ("three", 3)),
            "my master",
        ),
        ("rediss+sentinel://one/master", (("one", 26379),), "master"),
        ("redis+sentinel://[::1]:5,[::2]/master", (("::1", 5), ("::2", 26379)), "master"),
    ],
)
def test_sentinels_are_read(written: str, nodes: tuple[tuple[str, int], ...], service: str) -> None:
    """Sentinel's form: its nodes with its own default port, and the master's name."""
    address = RedisURL.parse(written)
    assert (address.kind, address.nodes, address.service) == ("sentinel", nodes, service)
    pool: Any = create_client(address, timeout=1).connection_pool
    given = pool.connection_kwargs
    if SECRET in written:
        assert (given["password"], given["db"]) == (SECRET, 2)
    assert issubclass(pool.connection_class, SSLConnection) == written.startswith("rediss")
    # The Sentinels do not get what is meant for the master, but TLS is used with them too.
    for node in nodes:
        asking = pool.locate.connect(node)
        assert asking.connection_kwargs["password"] is None
        assert not asking.connection_kwargs.get("db")
        assert issubclass(asking.connection_class, SSLConnection) == written.startswith("rediss")


def test_sentinel_has_a_password_of_its_own() -> None:
    """The Sentinels' password goes to the Sentinels, the other one to the master."""
    written = f"redis+sentinel://:{SECRET}@one/master?sentinel_password=other"
    pool: Any = create_client(RedisURL.parse(written), timeout=1).connection_pool
    assert pool.connection_kwargs["password"] == SECRET
    assert pool.locate.connect(("one", 26379)).connection_kwargs["password"] == "other"


@pytest.mark.parametrize(
    ("written", "nodes"),
    [
        ("redis+cluster://one", (("one", 6379),)),
        (f"redis+cluster://ada:{SECRET}@one:1,two:2", (("one", 1), ("two", 2))),
        ("rediss+cluster://one:1", (("one", 1),)),
        ("redis+cluster://[::1]:7000", (("::1", 7000),)),
    ],
)
def test_cluster_is_read(written: str, nodes: tuple[tuple[str, int], ...]) -> None:
    """Cluster's form: some of its nodes."""
    address = RedisURL.parse(written)
    assert (address.kind, address.nodes) == ("cluster", nodes)
    pool = create_client(address, timeout=1).connection_pool
    if SECRET in written:
        assert pool.connection_kwargs["password"] == SECRET
    assert issubclass(pool.connection_class, SSLConnection) == written.startswith("rediss")


_UNREADABLE = "cannot be read: write redis://user:password@host:port/number"
_UNESCAPED = "write / ? # @ in a user or password as %2F %3F %23 %40"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("http://:{}@redis", "should be host:port, or begin with redis://"),
        ("redis+cluster+x://:{}@redis", "should be host:port, or begin with redis://"),
        ("{}@redis://redis", "should be host:port, or begin with redis://"),
        ("redis://:{}@redis:port", "has a host that is not host:port"),
        ("redis://:{}@redis:70000", "has a host that is not host:port"),
        ("redis+sentinel://:{}@one:x/master", "has a host that is not host:port"),
        ("redis://:{}@redis/two", "after the host that is not a database number"),
        ("redis://:{}@redis/0/1", "after the host that is not a database number"),
        ("redis://:{}@redis?db=two", _UNREADABLE),
        ("redis://:{}@[redis", _UNREADABLE),
        (
            "redis://:{}@redis?unknown=1",
            "has the option unknown, which is not one of client_name, ",
        ),
        ("redis://redis?unknown={}", "has the option unknown, which is not one of client_name, db"),
        ("redis://:{}@redis?retry=3", "has the option retry, which is not one of client_name, db"),
        ("rediss://:{}@redis?ssl_cert_reqs=perhaps", "has an option with an invalid value"),
        ("rediss://:{}@redis?ssl_ca_certs=/no/such/file", "has the option ssl_ca_certs, but"),
        ("unix://:{}@", "names no socket"),
        ("redis+sentinel://:{}@one", "lacks the name of the master"),
        ("redis+sentinel://:{}@one/master/two", "after the master's name that is not a database"),
        ("redis+sentinel://:{}@/master", "names no host"),
        ("redis+cluster://:{}@", "names no host"),
        ("redis+cluster://:{}@one/1", "names a database, which a Cluster does not have"),
        # A password with unescaped characters that have a meaning in a URL.
        ("redis://:12/{}@redis:6379", _UNESCAPED),
        ("redis://:ab/{}@redis:6379", _UNESCAPED),
        ("redis://:12?{}=@redis:6379", _UNESCAPED),
        ("redis://:12#{}@redis:6379", _UNESCAPED),
        ("redis+sentinel://ada:{}/x@one:1/master", _UNESCAPED),
        ("redis+sentinel://ada:{}?x@one:1/master", _UNESCAPED),
        ("redis+cluster://:5/{}@one", _UNESCAPED),
        ("redis+cluster://ada:{}/x@one", _UNESCAPED),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_without_password(
    written: str, reason: str
) -> None:
    """A wrong REDIS_URL is a ValueError of one line, in words of its own, without the password."""
    with pytest.raises(ValueError, match=rf"^[^\n]*{re.escape(reason)}[^\n]*$") as refused:
        RedisURL.parse(written.format(SECRET))
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (f"redis://ada:{SECRET}@redis:6380/2", "redis:6380"),
        (f"rediss://:{SECRET}@redis", "redis:6379"),
        (f"unix://ada:{SECRET}@/run/redis.sock", "/run/redis.sock"),
        (f"redis+sentinel://:{SECRET}@one:1,two:2/master", "one:1,two:2/master"),
        (f"redis+sentinel://one:1/master?sentinel_password={SECRET}", "one:1/master"),
        (f"redis+cluster://ada:{SECRET}@one:1,two:2", "one:1,two:2"),
        (f"redis://redis?password={SECRET}", "redis:6379"),
        (f"redis://:{SECRET}@[fd00::7]:6383", "[fd00::7]:6383"),
        (f"redis+sentinel://:{SECRET}@[::1]:5,two:2/master", "[::1]:5,two:2/master"),
    ],
)
def test_address_shows_where_redis_is_and_nothing_else(written: str, shown: str) -> None:
    """`str()`, which goes to the log, has no user, no password and no option."""
    assert str(RedisURL.parse(written)) == shown
    assert SECRET not in f"{RedisURL.parse(written)}"


@pytest.mark.parametrize(
    "option", ["max_connections=3", "timeout=3", "socket_timeout=9", "protocol=9"]
)
def test_option_that_the_guestbook_sets_itself_does_no_harm(option: str) -> None:
    """Options that the guestbook must choose itself are ignored in the URL, without an error."""
    given = create_client(RedisURL.parse(f"redis://redis?{option}"), timeout=1)
    options = given.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["protocol"]) == (1, 2)


async def test_answers_are_bytes_whatever_the_url_asks_for(shared_valkey: Valkey) -> None:
    """An option by which a client would answer with text is refused, or has no effect."""
    written = f"redis://{shared_valkey.address}?decode_responses=true"
    with contextlib.suppress(ValueError):
        async with create_client(RedisURL.parse(written), timeout=1) as client:
            assert await client.echo("hello") == b"hello"
