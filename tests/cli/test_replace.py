"""All messages at once: `guestbook clear` and `guestbook import --replace`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from guestbook.core import EntryId, Message, Retention
from guestbook.storage import Archive, RedisURL, create_client
from tests.conftest import Serve, two_pods
from tests.support.messages import exported, store
from tests.support.servers import Server, command_env, guestbook
from tests.support.sse import EventStream
from tests.support.waiting import eventually, eventually_equal

EVENTS = "{guestbook}:events"


async def listed(pod: Server, query: str = "") -> list[str]:
    async with pod.client() as http:
        answer = await http.get(f"/messages{query}")
    return [message["text"] for message in answer.json()["messages"]]


async def run(*arguments: str, redis: str, given: bytes = b"") -> tuple[int, str]:
    done = await asyncio.to_thread(guestbook, *arguments, redis=redis, given=given)
    return done.returncode, done.stderr.decode()


@contextlib.asynccontextmanager
async def open_archive(url: str) -> AsyncIterator[Archive]:
    async with create_client(RedisURL.parse(url), timeout=5) as client:
        yield Archive(client, Retention(1000, 0))


async def test_clear_empties_every_open_page(serve: Serve, redis_url: str) -> None:
    """Each stream gets one `reset`, also one that comes back; ids go on, and keys are kept."""
    pods = await two_pods(serve)
    key = {"Idempotency-Key": "k"}
    async with (
        pods[0].client() as http,
        EventStream(pods[0].url) as near,
        EventStream(pods[1].url) as far,
    ):
        old = [
            (await http.post("/messages", json={"text": str(n)}, headers=key if n == 2 else {}))
            for n in range(3)
        ]
        last = old[-1].json()["id"]
        for stream in (near, far):
            await stream.entries(3)
        assert await run("clear", "--yes", redis=redis_url) == (
            0,
            "guestbook: deleted all messages\n",
        )
        for stream in (near, far):
            (reset,) = await stream.entries(1)
            assert reset.name == "reset"
            assert EntryId.parse(reset.id) > EntryId.parse(last)
        for pod in pods:
            assert await listed(pod) == await listed(pod, "?after=0-0") == []
        again = await http.post("/messages", json={"text": "2"}, headers=key)
        assert (again.status_code, again.json()["id"]) == (201, last)
        new = (await http.post("/messages", json={"text": "new"})).json()
        assert EntryId.parse(new["id"]) > EntryId.parse(reset.id)
        for stream in (near, far):
            assert [event.data for event in await stream.entries(1)] == [new]
    for cursor in (old[0].json()["id"], last):
        async with EventStream(pods[1].url, last_event_id=cursor) as back:
            (event,) = await back.entries(1)
            assert event.name == "reset"
    # These have loaded the list after it was cleared, or a client that has seen the reset.
    for cursor in ("0-0", reset.id):
        async with EventStream(pods[1].url, last_event_id=cursor) as back:
            (event,) = await back.entries(1)
            assert event.data == new


async def test_message_right_after_clear_comes_after_the_reset(
    serve: Serve, redis_url: str
) -> None:
    """No page shows the next message together with the old ones."""
    pod = await serve()
    async with open_archive(redis_url) as archive, Redis.from_url(redis_url) as redis:
        await redis.xadd(EVENTS, {"text": "old", "pod": "p"})
        async with EventStream(pod.url, after="0-0") as stream:
            await stream.entries(1)
            await archive.clear()
            await redis.xadd(EVENTS, {"text": "new", "pod": "p"})
            (event,) = await stream.entries(1)
            assert event.name == "reset"
            assert await listed(pod) == ["new"]


async def test_clear_asks_on_a_terminal(redis_url: str) -> None:
    """Without --yes it needs a terminal and a yes; else nothing is changed."""
    async with Redis.from_url(redis_url) as redis:
        await redis.xadd(EVENTS, {"text": "x", "pod": "p"})
        status, said = await run("clear", redis=redis_url)
        assert (status, said) == (2, "guestbook: clear cannot ask without a terminal: add --yes\n")
        for answer, expected, left in ((b"n\n", 1, 1), (b"y\n", 0, 0)):
            terminal, theirs = pty.openpty()
            os.write(terminal, answer)
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "guestbook", "clear"],
                env=command_env(redis_url),
                stdin=theirs,
                capture_output=True,
                check=False,
            )
            os.close(theirs)
            os.close(terminal)
            assert done.returncode == expected
            assert done.stderr.startswith(b"Delete all messages for good? [y/N]:")
            assert len(guestbook("list", redis=redis_url).stdout.splitlines()) == 2 * left


async def test_replace_is_all_or_nothing_for_readers(serve: Serve, redis_url: str) -> None:
    """Until the whole file is read all pods have the old messages; what is posted then is kept."""
    pods = await two_pods(serve)
    async with (
        pods[0].client() as http,
        Redis.from_url(redis_url) as redis,
        EventStream(pods[0].url) as near,
        EventStream(pods[1].url) as far,
    ):
        for n in range(3):
            await http.post("/messages", json={"text": f"old {n}"})
        command = [sys.executable, "-m", "guestbook", "import", "--replace", "-"]
        process = subprocess.Popen(
            command, env=command_env(redis_url), stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(b"".join(exported(n) for n in range(1, 601)))
        process.stdin.flush()

        async def is_staged() -> bool:
            return len(await redis.keys("{guestbook}:import:*")) > 0

        await eventually(is_staged)
        kept = (await http.post("/messages", json={"text": "meanwhile"})).json()
        deleted = guestbook("delete", kept["id"], redis=redis_url)
        assert deleted.returncode == 0
        kept = (await http.post("/messages", json={"text": "meanwhile"})).json()
        old = ["old 2", "old 1", "old 0"]
        await eventually_equal(lambda: listed(pods[1]), ["meanwhile", *old])
        _, said = await asyncio.to_thread(process.communicate, exported(601))
        assert (process.returncode, said.decode().splitlines()) == (
            0,
            [
                "guestbook: imported 601 messages, 0 were there",
                "guestbook: kept 1 message posted meanwhile",
            ],
        )
        for stream in (near, far):
            await stream.until("reset")
        for pod in pods:
            assert await listed(pod, "?limit=3") == ["meanwhile", "601", "600"]
            assert len(await listed(pod, "?after=0-0&limit=1000")) == 602
        new = (await http.post("/messages", json={"text": "new"})).json()
        for stream in (near, far):
            assert [event.data for event in await stream.entries(1)] == [new]
        assert await redis.keys("{guestbook}:import:*") == []
        assert await redis.ttl(EVENTS) == -1


async def test_cursor_of_replaced_messages_is_reset(serve: Serve, redis_url: str) -> None:
    """A client that was away loads the list again; its newest message is a cursor at once."""
    pod = await serve()
    async with Redis.from_url(redis_url) as redis:
        await store(redis_url, *["old"] * 5, first=10)
        await run(
            "import",
            "--replace",
            "-",
            redis=redis_url,
            given=exported(3) + exported(12) + exported(14),
        )
        await eventually_equal(lambda: listed(pod), ["14", "12", "3"])
        # 13 is not in the file, 12 is, and 1 is older than all of it.
        for cursor in ("13-0", "12-0", "1-0"):
            async with EventStream(pod.url, last_event_id=cursor) as back:
                assert (await back.entries(1))[0].name == "reset"
        async with EventStream(pod.url, last_event_id="14-0") as back:
            await back.until("pods")
            await redis.xadd(EVENTS, {"text": "new", "pod": "p"})
            (event,) = await back.entries(1)
            assert event.data["text"] == "new"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (exported(1) + b"no\n", "line 2 is not a message as `guestbook export` writes it"),
        (b'{"export": "guestbook"}\n' + exported(1), "the file is not a complete export"),
        (exported(2) + exported(1), "the messages are not in the order of their ids"),
        (b"", "the file is empty"),
        (
            b'{"export": "guestbook"}\n{"end": true, "messages": 0}\n',
            "there is no message to import",
        ),
    ],
)
async def test_bad_file_replaces_nothing(redis_url: str, given: bytes, reason: str) -> None:
    """The whole file is looked at before anything is changed."""
    async with Redis.from_url(redis_url) as redis:
        await redis.xadd(EVENTS, {"text": "old", "pod": "p"})
        status, said = await run("import", "--replace", "-", redis=redis_url, given=given)
        assert status == 2
        assert said.startswith(f"guestbook: {reason}")
        assert said.endswith(": nothing was changed\n")
        assert await redis.xlen(EVENTS) == 1
    assert b"old" in guestbook("list", redis=redis_url).stdout


async def test_edits_are_replaced_with_their_messages(redis_url: str) -> None:
    """Only words that were edited while the file was imported go on."""
    async with open_archive(redis_url) as archive, Redis.from_url(redis_url) as redis:
        await store(redis_url, "x", "x")

        async def edit(n: int, text: str) -> None:
            message = Message(EntryId(n, 0), None, "x", "p")
            edit = archive.edit(message, text, key="x" + text, address="", rate=None, until_ms=0)
            assert await edit is not None

        await edit(1, "before")
        since = (await archive.head()).last_id
        messages = [Message(EntryId(n, 0), None, "imported", "p") for n in (1, 2)]
        await archive.restore(messages, is_staged=True)
        await edit(2, "meanwhile")
        assert await archive.replace(since) == (0, 0)
        page = await archive.older(None, 9)
        assert [entry.text for entry in page.entries if isinstance(entry, Message)] == [
            "meanwhile",
            "imported",
        ]
        await archive.clear()
        assert not await redis.exists("{guestbook}:edits")


async def test_deletions_made_meanwhile_are_kept(redis_url: str) -> None:
    """A message that is deleted while a file with it is imported does not come back."""
    await store(redis_url, "x", "x")
    async with open_archive(redis_url) as archive:
        since = (await archive.head()).last_id
        await archive.delete(EntryId(1, 0), key="own:x", until_ms=0)
        messages = [Message(EntryId(n, 0), None, "x", "p") for n in (1, 2)]
        await archive.restore(messages, is_staged=True)
        assert await archive.replace(since) == (0, 0)
        left = (await archive.newer(EntryId(0, 0), 9)).entries
        assert [entry.id for entry in left] == [EntryId(2, 0)]


async def test_emptied_guestbook_takes_older_messages_by_replacing(redis_url: str) -> None:
    """After `list --json | delete -` an import gives advice, which works."""
    await store(redis_url, "x", first=2)
    listed = guestbook("list", "--json", redis=redis_url).stdout
    assert guestbook("delete", "-", redis=redis_url, given=listed).returncode == 0
    status, said = await run("import", "-", redis=redis_url, given=exported(1))
    assert status == 2
    assert said.endswith("or replace all messages with --replace\n")
    assert (await run("import", "--replace", "-", redis=redis_url, given=exported(1)))[0] == 0
    assert b"1-0" in guestbook("list", redis=redis_url).stdout
