"""Export and import on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import redis.asyncio
from redis.asyncio import Redis

from tests.conftest import Serve
from tests.processes import Valkey


def guestbook(
    *arguments: str, redis: str, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "guestbook", *arguments],
        env={"REDIS_URL": redis, "PATH": "/usr/bin:/bin"},
        input=given,
        capture_output=True,
        timeout=30,
        check=False,
    )


async def _all(url: str) -> list[dict[str, object]]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/messages", params={"limit": 1000})
        messages: list[dict[str, object]] = answer.json()["messages"]
        return messages


async def test_export_and_import_give_same_messages(
    serve: Serve, redis_url: str, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """What was exported from one guestbook is, imported into an empty one, the same; also twice."""
    here = await serve()
    there_url = f"redis://{shared_valkey.address}/9999"
    async with redis.asyncio.from_url(there_url) as there:
        await there.flushdb()
    async with httpx.AsyncClient(base_url=here.url) as client:
        for number in range(20):
            message = {
                "text": f"line\nand {number} é \u2028",
                "author": "Ada" if number % 2 else "",
            }
            await client.post("/messages", json=message)
    file = tmp_path / "messages.jsonl"
    exported = guestbook("export", str(file), redis=redis_url)
    assert exported.stderr == b"guestbook: exported 20 messages\n"
    assert guestbook("export", redis=redis_url).stdout == file.read_bytes()

    first = guestbook("import", str(file), redis=there_url)
    assert first.stderr == b"guestbook: imported 20 messages, 0 were there\n"
    again = guestbook("import", "-", redis=there_url, given=file.read_bytes())
    assert again.stderr == b"guestbook: imported 0 messages, 20 were there\n"
    other = await serve("pod-b", redis=there_url)
    assert await _all(other.url) == await _all(here.url)


async def test_older_messages_are_refused_by_newer_guestbook(serve: Serve, redis_url: str) -> None:
    """A stream grows only at its end: what has no place any more is counted, and said."""
    server = await serve()
    async with httpx.AsyncClient(base_url=server.url) as client:
        await client.post("/messages", json={"text": "new"})
    line = b'{"id": "5-0", "author": null, "text": "old", "pod": "p"}\n'
    answer = guestbook("import", "-", redis=redis_url, given=line)
    assert answer.returncode == 2
    assert b"1 message could not be put before newer ones" in answer.stderr


def test_import_names_bad_line(redis_url: str) -> None:
    """A line that is no message ends the import with its number, and no traceback."""
    good = b'{"id": "5-0", "author": null, "text": "x", "pod": "p"}\n'
    for bad in (
        b"{",
        b"[]",
        b'{"id": "x", "text": "x", "pod": "p"}',
        b'{"id":"6-0","text":"","pod":""}',
    ):
        answer = guestbook("import", "-", redis=redis_url, given=good + bad)
        assert answer.returncode == 2
        assert answer.stderr.startswith(b"guestbook: line 2")
        assert answer.stderr.count(b"\n") == 1


async def test_legacy_list_is_taken_over_once(serve: Serve, redis_url: str) -> None:
    """The original's list becomes messages in its order; a further run takes only what came."""
    async with Redis.from_url(redis_url) as client:
        await client.rpush("guestbook", "first", "", "second", "x" * 1500)
        first = guestbook("import", "--legacy-list", "guestbook", redis=redis_url)
        assert first.stderr == b"guestbook: took over 3 messages\n"
        await client.rpush("guestbook", "third")
        again = guestbook("import", "--legacy-list", "guestbook", redis=redis_url)
        assert again.stderr == b"guestbook: took over 1 message\n"
    server = await serve()
    texts = [message["text"] for message in await _all(server.url)]
    assert texts == ["third", "x" * 500, "x" * 1000, "second", "first"]


def test_redis_away_is_one_line() -> None:
    """A command that cannot reach Redis says so in a line that names the variable."""
    answer = guestbook("export", redis="redis://:secret@127.0.0.1:1")
    assert answer.returncode == 2
    assert answer.stderr.startswith(b"guestbook: REDIS_URL: Redis at 127.0.0.1:1")
    assert answer.stderr.count(b"\n") == 1
    assert b"secret" not in answer.stderr


async def test_reader_of_an_export_may_leave(serve: Serve, redis_url: str) -> None:
    """`guestbook export | head -1` ends as other programs do: silently, by SIGPIPE."""
    server = await serve()
    async with httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(300):
            await client.post("/messages", json={"text": "x" * 1000})
    command = f"{sys.executable} -m guestbook export; echo $? >&2"
    answer = subprocess.run(
        ["/bin/bash", "-c", f"({command}) | head -n 1 | wc -l"],
        env={"REDIS_URL": redis_url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert answer.stdout.strip() == b"1"
    assert answer.stderr.strip() == b"141"
