"""Check a Redis: reachable, new enough, durable, and with the rights that the settings need."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from guestbook.core import EntryId
from guestbook.storage.errors import REDIS_ERRORS, explain
from guestbook.storage.keys import EVENTS
from guestbook.storage.replication import WAIT_MS
from guestbook.storage.topology import HASH_TAG, create_client
from guestbook.storage.url import RedisURL

_TIMEOUT = 5.0
_SCRATCH = f"{HASH_TAG}:check"
_SCRATCH_MS = 1000
CLOCK_AHEAD_SECONDS = 10
"""How far the newest id may be ahead of Redis's clock: small corrections of a clock are normal."""

_OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}

# Each command that the guestbook uses, by itself or in a script. They are tried on a short-lived
# key that holds a text: Redis checks the permission before the type.
_TRIALS = (
    f"evalsha {'0' * 40} 1 KEY",
    "exists KEY",
    "get KEY",
    "hdel KEY field",
    "hgetall KEY",
    "hmget KEY field",
    "hset KEY field value",
    "lindex KEY 0",
    "lpush KEY value",
    "ltrim KEY 0 0",
    f"pexpire KEY {_SCRATCH_MS}",
    "script|load return",
    "set KEY text XX KEEPTTL",
    "time",
    "xadd KEY NOMKSTREAM * field value",
    "xdel KEY 1-1",
    "xinfo|stream KEY",
    "xlen KEY",
    "xrange KEY - +",
    "xread STREAMS KEY 0",
    "xrevrange KEY + -",
    "xtrim KEY MAXLEN 1000",
)
_CLUSTER_TRIALS = ("cluster|slots",)
_WAIT_TRIALS = ("eval return 0", "wait 0 1")
_LAB_TRIALS = ("blpop KEY 0.01", "llen KEY", "rpush KEY value")
_LEGACY_TRIALS = ("info server",)
_REPLACE_TRIALS = (f"persist {_SCRATCH}:none", f"rename KEY {_SCRATCH}")
_IMPORT_TRIALS = ("incr KEY", "llen KEY", "lrange KEY 0 0")

Mark = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One result, with advice."""

    mark: Mark
    text: str

    def __str__(self) -> str:
        return f"{self.mark:<4}  {self.text}"


async def inspect(
    url: RedisURL, *, wait_replicas: int = 0, lab: bool = False, legacy_api: bool = False
) -> list[Finding]:
    """Return all findings, also about those of these settings that are on.

    Changes only a key of its own, which expires after a second.
    """
    client: Any = create_client(url, timeout=_TIMEOUT)
    try:
        info = await _info(client)
        found = [
            Finding("ok", f"reachable at {url}"),
            *_server(info, url),
            *await _writing(client),
            await _rights(client, _TRIALS + (_CLUSTER_TRIALS if url.kind == "cluster" else ())),
        ]
        replacing = await _rights(
            client, _REPLACE_TRIALS, by="guestbook import --replace", mark="warn"
        )
        found += [replacing] if replacing.mark != "ok" else []
        if wait_replicas:
            found.append(await _waiting(client, wait_replicas))
        if lab:
            found.append(await _rights(client, _LAB_TRIALS, by="GUESTBOOK_LAB"))
        if legacy_api:
            found.append(await _rights(client, _LEGACY_TRIALS, by="GUESTBOOK_LEGACY_API"))
            by = "guestbook import --legacy-list"
            found.append(await _rights(client, _IMPORT_TRIALS, by=by, mark="warn"))
        if info:
            found += [*_file(info, await _fsync(client)), _memory(info)]
        return found + [finding async for finding in _clock(client)]
    except REDIS_ERRORS as error:
        return [Finding("fail", f"not reachable at {url}: {explain(error)}")]
    finally:
        await client.aclose()


async def _info(client: Any) -> dict[str, Any]:
    """Return INFO; empty without the right to it."""
    try:
        info: dict[str, Any] = await client.info("everything")
    except ResponseError as error:
        if _is_forbidden(error):
            return {}
        raise
    return info


async def _fsync(client: Any) -> str | None:
    try:
        config: dict[str, str] = await client.config_get("appendfsync")
    except ResponseError:  # as in most managed services
        return None
    return config.get("appendfsync")


def _is_forbidden(error: Exception) -> bool:
    return isinstance(error, NoPermissionError) or "unknown command" in str(error).lower()


def _server(info: dict[str, Any], url: RedisURL) -> Iterator[Finding]:
    if not info:
        yield Finding("warn", "cannot tell the version and what is kept: INFO is not allowed")
        return
    is_valkey = "valkey_version" in info or info.get("server_name") == "valkey"
    name = "Valkey" if is_valkey else "Redis"
    text = str(info.get("valkey_version", info["redis_version"]))
    if tuple(int(part) for part in re.findall(r"\d+", text)[:2]) >= _OLDEST[name]:
        yield Finding("ok", f"{name} {text}")
    else:
        wanted = " and ".join(f"{each} {a}.{b}" for each, (a, b) in _OLDEST.items())
        yield Finding("fail", f"{name} {text} is too old: {wanted} are the oldest that will do")
    if info.get("role") == "slave":
        yield Finding("fail", "a replica, which takes no messages: name its master in REDIS_URL")
    elif replicas := int(info.get("connected_slaves", 0)):
        text = f"{replicas} of its replicas connected; a fail-over loses what they do not have yet"
        yield Finding("ok", text)
    elif url.kind != "single":
        yield Finding("warn", "no replica is connected: there is nothing to fail over to")


async def _writing(client: Any) -> list[Finding]:
    try:
        await client.set(_SCRATCH, "text", px=_SCRATCH_MS)
    except ResponseError as error:
        return [] if _is_forbidden(error) else [Finding("fail", f"takes no messages: {error}")]
    return [Finding("ok", "takes messages")]


async def _rights(
    client: Any, trials: Iterable[str], *, by: str = "", mark: Mark = "fail"
) -> Finding:
    """Try commands that the guestbook needs, or one of its features."""
    commands = {name: arguments for name, *arguments in map(str.split, trials)}
    pipeline = client.pipeline(transaction=False)
    for name, arguments in commands.items():
        given = (_SCRATCH if each == "KEY" else each for each in arguments)
        pipeline.execute_command(*name.split("|"), *given)
    answers = await pipeline.execute(raise_on_error=False)
    refused = {
        name: answer
        for name, answer in zip(commands, answers, strict=True)
        if isinstance(answer, Exception) and _is_forbidden(answer)
    }
    about = f"{by}: " if by else ""
    if not refused:
        return Finding("ok", f"{about}allowed to use all {len(commands)} commands that are needed")
    if any("key" in str(error) for error in refused.values()):
        return Finding(mark, f"{about}not allowed to use its keys: ACL SETUSER … ~{HASH_TAG}:*")
    rights = " ".join(f"+{name}" for name in sorted(refused))
    return Finding(mark, f"{about}not allowed to use some commands: ACL SETUSER … {rights}")


async def _waiting(client: Any, wanted: int) -> Finding:
    """Try whether GUESTBOOK_WAIT_REPLICAS replicas confirm a write."""
    by = f"GUESTBOOK_WAIT_REPLICAS={wanted}"
    rights = await _rights(client, _WAIT_TRIALS, by=by)
    if rights.mark != "ok":
        return rights
    pipeline = client.pipeline(transaction=False)
    # WAIT waits for the writes of its own connection.
    pipeline.set(_SCRATCH, "text", px=_SCRATCH_MS)
    pipeline.execute_command("WAIT", wanted, WAIT_MS)
    _, reached = await pipeline.execute(raise_on_error=False)
    if isinstance(reached, Exception):
        return Finding("fail", f"{by}: {reached}")
    text = f"{by}: replicas that confirmed a write: {reached}"
    return Finding("ok", text) if reached >= wanted else Finding("fail", f"{text}; posts get 503")


def _file(info: dict[str, Any], fsync: str | None) -> Iterator[Finding]:
    if not info.get("aof_enabled"):
        yield Finding(
            "warn",
            "no append-only file: a restart loses what is newer than the last snapshot, "
            "or everything; set appendonly yes",
        )
        return
    if info.get("aof_last_write_status") == "err":
        yield Finding("fail", "the append-only file cannot be written to: look at Redis's log")
    if fsync == "always":
        yield Finding("ok", "append-only file, on the disk before a message is acknowledged")
    elif fsync is None:
        yield Finding(
            "warn",
            "append-only file; cannot tell how often it goes to the disk: CONFIG is not "
            "allowed. Unless appendfsync is always, a power cut loses up to a second or more",
        )
    else:
        lost = "a second" if fsync == "everysec" else "half a minute"
        text = f"a power cut loses up to {lost} of messages; set appendfsync always"
        yield Finding("warn", f"appendfsync {fsync}: {text}")


def _memory(info: dict[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    limit = int(info.get("maxmemory", 0))
    if policy != "noeviction":
        is_any_key = policy.startswith("allkeys")
        lost = (
            "all messages may be thrown away"
            if is_any_key
            else "idempotency keys are forgotten early"
        )
        return Finding(
            "fail" if is_any_key and limit else "warn",
            f"maxmemory-policy {policy}: where the memory is full {lost}; "
            "set maxmemory-policy noeviction",
        )
    if not limit:
        return Finding("ok", "nothing is evicted")
    used = int(info.get("used_memory", 0))
    return Finding(
        "warn" if used > 0.9 * limit else "ok",
        f"{used * 100 // limit}% of {limit >> 20} MiB used; when it is full posts are refused, "
        "and nothing is evicted",
    )


async def _clock(client: Any) -> AsyncIterator[Finding]:
    """Compare Redis's clock with the newest id, which that clock has made."""
    try:
        stream = await client.xinfo_stream(EVENTS)
        now, _ = await client.time()
    except ResponseError:  # no stream, or no right to ask
        return
    ahead = EntryId.from_bytes(stream["last-generated-id"]).ms // 1000 - now
    if ahead > CLOCK_AHEAD_SECONDS:
        yield Finding(
            "warn",
            f"the newest id is {ahead} s ahead of Redis's clock, which was once wrong; until it "
            "has caught up, new messages have times in the future, and GUESTBOOK_MAX_AGE keeps "
            "them too long",
        )
