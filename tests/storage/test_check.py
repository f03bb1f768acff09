"""`guestbook check`: its findings, their texts, and its exit status."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from guestbook.storage.check import Finding, inspect
from guestbook.storage.keys import EVENTS
from guestbook.storage.url import RedisURL
from tests.support.ports import free_port
from tests.support.servers import guestbook
from tests.support.valkey import Valkey, documented_rights
from tests.support.waiting import eventually

SECRET = "s3cret"
REFUSED = "not allowed to use some commands: ACL SETUSER …"


async def found(url: str, **settings: Any) -> str:
    return "\n".join(str(finding) for finding in await inspect(RedisURL.parse(url), **settings))


async def test_durable_server_is_ok(valkey: Valkey) -> None:
    """A server that puts everything on the disk and evicts nothing has only good findings."""
    async with valkey.client() as redis:
        await redis.config_set("maxmemory", "100mb")
        assert {finding.mark for finding in await inspect(RedisURL.parse(valkey.address))} == {"ok"}
        # Its key expires.
        assert 0 < await redis.pttl("{guestbook}:check") <= 1000


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("appendfsync", "everysec", "warn  appendfsync everysec: a power cut loses up to a second"),
        ("appendonly", "no", "warn  no append-only file"),
        ("maxmemory-policy", "allkeys-lru", "warn  maxmemory-policy allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl", "warn  maxmemory-policy volatile-ttl"),
        ("maxmemory", "1", "fail  takes no messages: "),
        ("min-replicas-to-write", "1", "fail  takes no messages: "),
    ],
)
async def test_what_is_not_durable_is_found(
    valkey: Valkey, name: str, value: str, expected: str
) -> None:
    """Settings that lose or refuse messages are named, with what to set instead."""
    async with valkey.client() as redis:
        await redis.config_set(name, value)
    assert f"\n{expected}" in await found(valkey.address)


async def test_full_cache_would_lose_messages(valkey: Valkey) -> None:
    """A limit of memory and a policy that evicts any key together are a failure."""
    async with valkey.client() as redis:
        await redis.config_set("maxmemory", "100mb")
        await redis.config_set("maxmemory-policy", "allkeys-lfu")
    assert "\nfail  maxmemory-policy allkeys-lfu: " in await found(valkey.address)


async def test_replica_is_no_master(valkey: Valkey) -> None:
    """A replica is recognised."""
    async with valkey.client() as redis:
        await redis.replicaof("127.0.0.1", free_port())
    said = await found(valkey.address)
    assert "\nfail  a replica" in said
    assert "\nfail  takes no messages: " in said


async def test_missing_rights_are_named(valkey: Valkey) -> None:
    """Missing rights are named as ACL SETUSER takes them: commands, or the pattern of keys."""
    async with valkey.client() as redis:
        for name, *rules in (
            ("some", "~{guestbook}:*", "+@all", "-xadd", "-script|load"),
            ("other", "~other:*", "+@all"),
            ("blind", "~{guestbook}:*", "+@all", "-info", "-config"),
        ):
            await redis.execute_command("ACL", "SETUSER", name, "on", f">{SECRET}", *rules)
    assert (
        "\nfail  not allowed to use some commands: ACL SETUSER … +script|load +xadd"
        in await found(f"some:{SECRET}@{valkey.address}")
    )
    assert "\nfail  not allowed to use its keys" in await found(f"other:{SECRET}@{valkey.address}")
    async with valkey.client() as redis:
        old = [right for right in documented_rights() if right not in ("+persist", "+rename")]
        await redis.execute_command("ACL", "SETUSER", "old", "on", f">{SECRET}", *old)
    said = await found(f"old:{SECRET}@{valkey.address}")
    assert f"\nwarn  guestbook import --replace: {REFUSED} +persist +rename\n" in said
    assert "fail" not in said
    # Missing rights to ask are no failure.
    said = await found(f"blind:{SECRET}@{valkey.address}")
    assert "\nwarn  cannot tell the version and what is kept" in said
    assert "fail" not in said


@pytest.mark.parametrize(
    ("feature", "settings", "expected"),
    [
        (
            "GUESTBOOK_WAIT_REPLICAS",
            {"wait_replicas": 1},
            f"fail  GUESTBOOK_WAIT_REPLICAS=1: {REFUSED} +eval +wait",
        ),
        ("GUESTBOOK_LAB", {"lab": True}, f"fail  GUESTBOOK_LAB: {REFUSED} +blpop +llen +rpush"),
        (
            "guestbook import --legacy-list LIST",
            {"legacy_api": True},
            f"warn  guestbook import --legacy-list: {REFUSED} +incr +llen +lrange",
        ),
    ],
)
async def test_rights_that_settings_need_are_named(
    valkey: Valkey, feature: str, settings: dict[str, Any], expected: str
) -> None:
    """The rights of a setting are tried if it is on; the documented ones suffice."""
    async with valkey.client() as redis:
        for name, rights in (("few", documented_rights()), ("all", documented_rights(feature))):
            await redis.execute_command("ACL", "SETUSER", name, "on", f">{SECRET}", *rights)
    few, all_rights = (f"{name}:{SECRET}@{valkey.address}" for name in ("few", "all"))
    assert "not allowed to" not in await found(few)
    assert f"\n{expected}" in await found(few, **settings)
    assert "not allowed to use some" not in await found(all_rights, **settings)


async def test_legacy_api_needs_info(valkey: Valkey) -> None:
    """The original application's /info needs the right to INFO."""
    rights = [*documented_rights(), "-info"]
    async with valkey.client() as redis:
        await redis.execute_command("ACL", "SETUSER", "blind", "on", f">{SECRET}", *rights)
    said = await found(f"blind:{SECRET}@{valkey.address}", legacy_api=True)
    assert "\nfail  GUESTBOOK_LEGACY_API: " in said
    assert "ACL SETUSER … +info" in said


async def test_replicas_are_counted(valkey: Valkey, tmp_path: Path) -> None:
    """GUESTBOOK_WAIT_REPLICAS replicas have to confirm a write."""
    said = await found(valkey.address, wait_replicas=1)
    assert "\nfail  GUESTBOOK_WAIT_REPLICAS=1: replicas that confirmed a write: 0;" in said

    async def is_confirmed() -> bool:
        said = await found(valkey.address, wait_replicas=1)
        return "\nok    GUESTBOOK_WAIT_REPLICAS=1: replicas that confirmed a write: 1" in said

    with Valkey(tmp_path / "replica", "--replicaof", "127.0.0.1", str(valkey.port)):
        await eventually(is_confirmed)
        said = await found(valkey.address, wait_replicas=2)
        assert "\nfail  GUESTBOOK_WAIT_REPLICAS=2: replicas that confirmed a write: 1;" in said


async def test_clock_that_was_ahead_is_found(valkey: Valkey) -> None:
    """Ids never go back, so that those of the future stay; a small correction is not reported."""
    async with valkey.client() as redis:
        now = (await redis.time())[0]
        await redis.xadd(EVENTS, {"text": "soon"}, id=f"{now + 5}000-0")
        assert "ahead" not in await found(valkey.address)
        last = await redis.xadd(EVENTS, {"text": "later"}, id=f"{now + 3600}000-0")
        await redis.xdel(EVENTS, last)
        assert re.search(
            r"\nwarn  the newest id is 3[56]\d\d s ahead of Redis's clock",
            await found(valkey.address),
        )


async def test_cloud_without_config(tmp_path: Path) -> None:
    """A server without CONFIG is good enough, and the finding names what is unknown."""
    with Valkey(tmp_path / "valkey", "--rename-command", "CONFIG", "secret-config") as valkey:
        said = await found(valkey.address)
    assert "\nwarn  append-only file; cannot tell how often it goes to the disk" in said
    assert "fail" not in said


def test_exit_status(valkey: Valkey) -> None:
    """0 where the Redis suits the settings, 1 where not; no password is shown."""
    nothing = f"127.0.0.1:{free_port()}"
    for address, replicas, status in (
        (valkey.address, 0, 0),
        (valkey.address, 1, 1),
        (nothing, 0, 1),
    ):
        done = guestbook(
            "check",
            redis=f"redis://default:{SECRET}@{address}",
            GUESTBOOK_WAIT_REPLICAS=str(replicas),
            GUESTBOOK_LAB="true",
        )
        assert (done.returncode, done.stderr) == (status, b"")
        assert f"reachable at {address}" in done.stdout.decode()
        assert SECRET not in done.stdout.decode()


def test_finding_is_a_line() -> None:
    """The mark is a word, so that it can be read without colours and found with grep."""
    assert str(Finding("ok", "fine")) == "ok    fine"
