"""Check a Redis: reachable, recent enough, with all rights that are needed, and durable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from guestbook.storage.errors import REDIS_ERRORS, explain
from guestbook.storage.topology import HASH_TAG, create_client
from guestbook.storage.url import RedisURL

_TIMEOUT = 5.0
_SCRATCH = f"{HASH_TAG}:check"
_SCRATCH_MS = 1000
_OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}

# Each command that the guestbook uses, by itself or in a script. They are tried on a short-lived
# key that holds a text: Redis checks the permission before the type.
_TRIALS: Mapping[str, tuple[Any, ...]] = {
    "evalsha": ("EVALSHA", "0" * 40, 1, _SCRATCH),
    "exists": ("EXISTS", _SCRATCH),
    "get": ("GET", _SCRATCH),
    "hdel": ("HDEL", _SCRATCH, "field"),
    "hgetall": ("HGETALL", _SCRATCH),
    "hset": ("HSET", _SCRATCH, "field", "value"),
    "lindex": ("LINDEX", _SCRATCH, 0),
    "lpush": ("LPUSH", _SCRATCH, "value"),
    "ltrim": ("LTRIM", _SCRATCH, 0, 0),
    "pexpire": ("PEXPIRE", _SCRATCH, _SCRATCH_MS),
    "script|load": ("SCRIPT", "LOAD", "return 1"),
    "set": ("SET", _SCRATCH, "text", "XX", "KEEPTTL"),
    "time": ("TIME",),
    "xadd": ("XADD", _SCRATCH, "NOMKSTREAM", "*", "field", "value"),
    "xdel": ("XDEL", _SCRATCH, "1-1"),
    "xinfo|stream": ("XINFO", "STREAM", _SCRATCH),
    "xlen": ("XLEN", _SCRATCH),
    "xrange": ("XRANGE", _SCRATCH, "-", "+"),
    "xread": ("XREAD", "STREAMS", _SCRATCH, "0"),
    "xrevrange": ("XREVRANGE", _SCRATCH, "+", "-"),
    "xtrim": ("XTRIM", _SCRATCH, "MAXLEN", 1000),
}
_CLUSTER_TRIALS: Mapping[str, tuple[Any, ...]] = {"cluster|slots": ("CLUSTER", "SLOTS")}

Mark = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One result, with what to do about it."""

    mark: Mark
    text: str

    def __str__(self) -> str:
        return f"{self.mark:<4}  {self.text}"


async def inspect(url: RedisURL) -> list[Finding]:
    """Return all findings. Changes nothing but a key of its own that lives for a second."""
    client: Any = create_client(url, timeout=_TIMEOUT)
    try:
        info = await _info(client)
        found = [
            Finding("ok", f"reachable at {url}"),
            *_version(info),
            *_role(info, url),
            *await _writing(client),
            *await _permissions(client, url),
            *_file(info, await _fsync(client)),
            *_memory(info),
        ]
    except REDIS_ERRORS as error:
        return [Finding("fail", f"not reachable at {url}: {explain(error)}")]
    finally:
        await client.aclose()
    return found


async def _info(client: Any) -> dict[str, Any] | None:
    """Return INFO; None without the right to it."""
    try:
        info: dict[str, Any] = await client.info("everything")
    except ResponseError as error:
        if _is_forbidden(error):
            return None
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


def _version(info: dict[str, Any] | None) -> Iterator[Finding]:
    if info is None:
        yield Finding("warn", "cannot tell the version and what is kept: INFO is not allowed")
        return
    name, text = "Redis", str(info["redis_version"])
    if "valkey_version" in info:
        name, text = "Valkey", str(info["valkey_version"])
    elif info.get("server_name") == "valkey":
        name = "Valkey"
    oldest = _OLDEST[name]
    number = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if number >= oldest:
        yield Finding("ok", f"{name} {text}")
    else:
        wanted = " and ".join(f"{each} {a}.{b}" for each, (a, b) in _OLDEST.items())
        yield Finding("fail", f"{name} {text} is too old: {wanted} are the oldest that will do")


def _role(info: dict[str, Any] | None, url: RedisURL) -> Iterator[Finding]:
    if info is None:
        return
    if info.get("role") == "slave":
        yield Finding("fail", "a replica, which takes no messages: name its master in REDIS_URL")
        return
    replicas = int(info.get("connected_slaves", 0))
    if replicas:
        yield Finding(
            "ok",
            f"{replicas} of its replicas connected; a fail-over loses what they do not have yet",
        )
    elif url.kind != "single":
        yield Finding("warn", "no replica is connected: there is nothing to fail over to")


async def _writing(client: Any) -> Iterator[Finding]:
    try:
        await client.set(_SCRATCH, "text", px=_SCRATCH_MS)
    except ResponseError as error:
        if not _is_forbidden(error):
            return iter([Finding("fail", f"takes no messages: {error}")])
    else:
        return iter([Finding("ok", "takes messages")])
    return iter(())


async def _permissions(client: Any, url: RedisURL) -> Iterator[Finding]:
    trials = {**_TRIALS, **(_CLUSTER_TRIALS if url.kind == "cluster" else {})}
    pipeline = client.pipeline(transaction=False)
    for command in trials.values():
        pipeline.execute_command(*command)
    answers = await pipeline.execute(raise_on_error=False)
    refused = {
        name: answer
        for name, answer in zip(trials, answers, strict=True)
        if isinstance(answer, Exception) and _is_forbidden(answer)
    }
    if not refused:
        return iter([Finding("ok", f"allowed to use all {len(trials)} commands that are needed")])
    if any("key" in str(error) for error in refused.values()):
        return iter([Finding("fail", f"not allowed to use its keys: ACL SETUSER … ~{HASH_TAG}:*")])
    rights = " ".join(f"+{name}" for name in sorted(refused))
    return iter([Finding("fail", f"not allowed to use some commands: ACL SETUSER … {rights}")])


def _file(info: dict[str, Any] | None, fsync: str | None) -> Iterator[Finding]:
    if info is None:
        return
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
        yield Finding(
            "warn",
            f"appendfsync {fsync}: a power cut loses up to {lost} of messages; "
            "set appendfsync always",
        )


def _memory(info: dict[str, Any] | None) -> Iterator[Finding]:
    if info is None:
        return
    policy = info.get("maxmemory_policy", "noeviction")
    limit = int(info.get("maxmemory", 0))
    if policy.startswith("allkeys"):
        yield Finding(
            "fail" if limit else "warn",
            f"maxmemory-policy {policy}: where the memory is full all messages may be "
            "thrown away; set maxmemory-policy noeviction",
        )
    elif policy != "noeviction":
        yield Finding(
            "warn",
            f"maxmemory-policy {policy}: where the memory is full idempotency keys are "
            "forgotten early; set maxmemory-policy noeviction",
        )
    elif limit:
        used = int(info.get("used_memory", 0))
        mark: Mark = "warn" if used > 0.9 * limit else "ok"
        yield Finding(
            mark,
            f"{used * 100 // limit}% of {limit >> 20} MiB used; when it is full posts are refused, "
            "and nothing is evicted",
        )
    else:
        yield Finding("ok", "nothing is evicted")
