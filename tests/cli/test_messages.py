"""The command line: reading and deleting messages, and how a command ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from guestbook.cli.terminal import progress_bar
from tests.conftest import Serve
from tests.support.messages import exported, store
from tests.support.servers import command_env, guestbook
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

_EVENTS = "{guestbook}:events"


async def test_list_shows_the_newest_first(serve: Serve, redis_url: str) -> None:
    """Text and JSON lines have the newest messages, page by page, without deleted ones."""
    server = await serve()
    async with server.client() as http:
        for number in range(5):
            text = {"text": f"number {number}\nand\tmore", "author": "Ada" if number % 2 else ""}
            await http.post("/messages", json=text)
        said = (await http.get("/messages")).json()["messages"]
        async with Redis.from_url(redis_url) as redis:
            await redis.xdel(_EVENTS, said[2]["id"])
            await redis.xadd(_EVENTS, {"deleted": said[2]["id"]})
    del said[2]
    listed = guestbook("list", "--json", "--limit", "3", redis=redis_url)
    assert listed.returncode == 0
    assert [json.loads(line) for line in listed.stdout.splitlines()] == said[:3]
    older = guestbook("list", "--before", said[2]["id"], redis=redis_url)
    (last,) = said[3:]
    head = f"{last['id']}  {last['posted_at']}  pod-a\n"
    assert older.stdout.decode() == f"{head}    number 0\n    and     more\n"
    assert older.stderr == b""


async def test_list_disturbs_no_terminal(redis_url: str) -> None:
    """Characters that control a terminal are escaped; emoji and accents stay."""
    async with Redis.from_url(redis_url) as redis:
        text = "\x1b]0;title\x07 \x9b2J \u202eevil\u2066 \u2028 é 👩\u200d👧"
        await redis.xadd(_EVENTS, {"text": text, "author": "\x1b[31mred", "pod": "p\x08"})
    shown = guestbook("list", redis=redis_url).stdout.decode()
    assert r"\x1b]0;title\x07 \x9b2J \u202eevil\u2066 \u2028 é 👩" in shown
    assert r"p\x08  \x1b[31mred" in shown
    assert shown.replace("\n", "").replace("\u200d", "").isprintable()
    as_json = guestbook("list", "--json", redis=redis_url).stdout.decode()
    assert "\\u202eevil" in as_json
    assert "é 👩\u200d👧" in as_json
    assert as_json.replace("\n", "").replace("\u200d", "").isprintable()
    assert json.loads(as_json)["text"] == text


async def test_deleted_message_vanishes_from_open_pages(serve: Serve, redis_url: str) -> None:
    """Ids come as arguments or on standard input; one that does not exist is reported: status 1."""
    server = await serve()
    async with server.client() as http, EventStream(server.url) as stream:
        posted = [
            (await http.post("/messages", json={"text": str(number)})).json() for number in range(4)
        ]
        ids = [message["id"] for message in posted]
        await stream.entries(4)

        def delete(*arguments: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
            return guestbook("delete", *arguments, redis=redis_url, given=given.encode())

        wrong = await asyncio.to_thread(delete, ids[0], "x\x1b")
        assert (wrong.returncode, wrong.stdout) == (2, b"")
        assert wrong.stderr.startswith(rb"guestbook: x\x1b is not a message id")
        assert len((await http.get("/messages")).json()["messages"]) == 4

        some = await asyncio.to_thread(delete, ids[0], "1-0", ids[1])
        assert some.returncode == 1
        assert some.stderr == b"guestbook: 1-0 does not exist\nguestbook: deleted 2 messages\n"
        piped = await asyncio.to_thread(
            delete, "-", given=f"{ids[2]}  and more\n\n{json.dumps(posted[3])}\n"
        )
        assert (piped.returncode, piped.stderr) == (0, b"guestbook: deleted 2 messages\n")
        deletions = await stream.entries(4)
        assert [(event.name, event.data["id"]) for event in deletions] == [
            ("deleted", each) for each in ids
        ]
        assert (await http.get("/messages")).json()["messages"] == []


async def test_text_of_a_message_is_not_taken_for_an_id(redis_url: str) -> None:
    """Only the lines with ids count in the output of `list`, whatever visitors write."""
    await store(redis_url, "the victim", "1-0 cheap pills")
    listed = guestbook("list", "--limit", "1", redis=redis_url).stdout
    assert b"    1-0 cheap" in listed
    done = guestbook("delete", "-", redis=redis_url, given=listed)
    assert (done.returncode, done.stderr) == (0, b"guestbook: deleted 1 message\n")
    assert b"the victim" in guestbook("list", redis=redis_url).stdout


async def test_messages_are_found_by_their_words(redis_url: str) -> None:
    """`guestbook list --json | grep WORD | guestbook delete -` deletes in every language."""
    await store(redis_url, "Grüße aus Köln", "你好", "hello")
    command = f"{sys.executable} -m guestbook"
    for word in ("Grüße", "你好"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} list --json | grep '{word}' | {command} delete -"],
            env=command_env(redis_url),
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == b"guestbook: deleted 1 message\n"
        again = guestbook("delete", "-", redis=redis_url)
        assert (again.returncode, again.stderr) == (
            0,
            b"guestbook: deleted 0 messages: no id was given\n",
        )
    assert b"hello" in guestbook("list", redis=redis_url).stdout
    whole = guestbook("export", redis=redis_url).stdout
    done = guestbook("delete", "-", redis=redis_url, given=whole)
    assert (done.returncode, done.stderr) == (0, b"guestbook: deleted 1 message\n")


async def test_interrupted_export_leaves_nothing(valkey: Valkey, tmp_path: Path) -> None:
    """A file exists only when it is complete, and the exit status is that of the signal."""
    file = tmp_path / "messages.csv"
    partial = tmp_path / "messages.csv.partial"
    valkey.freeze()
    process = subprocess.Popen(
        [sys.executable, "-m", "guestbook", "export", str(file)],
        env=command_env(valkey.address),
        stderr=subprocess.PIPE,
    )
    await eventually(partial.exists)
    process.send_signal(signal.SIGTERM)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert (process.returncode, said) == (-signal.SIGTERM, b"")
    assert not file.exists()
    assert not partial.exists()


async def test_long_work_shows_how_far_it_is(redis_url: str) -> None:
    """A terminal gets a bar; Ctrl-C restores the terminal and keeps the imported messages."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "guestbook", "import", "-"],
        env=command_env(redis_url, TERM="xterm", COLUMNS="80"),
        stdin=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    assert process.stdin is not None
    shown = b""
    os.set_blocking(terminal, False)
    numbers = iter(range(1, 10**6))

    redis = Redis.from_url(redis_url)

    async def is_shown() -> bool:
        nonlocal shown
        assert process.stdin is not None
        process.stdin.write(b"".join(exported(next(numbers)) for _ in range(250)))
        process.stdin.flush()
        try:
            shown += os.read(terminal, 2**16)
        except BlockingIOError:
            return False
        return b"importing" in shown and await redis.xlen(_EVENTS) > 0

    await eventually(is_shown, every=0.1)
    process.send_signal(signal.SIGINT)
    # Its standard input is still open: nothing but the signal ends it.
    assert await asyncio.to_thread(process.wait, 30) == -signal.SIGINT
    process.stdin.close()
    # Reading is an error when all has been read and the other end is closed.
    with contextlib.suppress(OSError):
        shown += os.read(terminal, 2**16)
    os.close(terminal)
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0
    assert b"Traceback" not in shown
    there = int(await redis.xlen(_EVENTS))
    await redis.aclose()
    assert there >= 250
    again = guestbook(
        "import", "-", redis=redis_url, given=b"".join(map(exported, range(1, there + 11)))
    )
    assert again.stderr.decode() == f"guestbook: imported 10 messages, {there} were there\n"


async def test_swallowed_cancellation_ends_the_work_all_the_same() -> None:
    """Before Python 3.12 `asyncio.wait_for` loses the one that Ctrl-C makes of a command's task."""
    is_waiting = asyncio.Event()

    async def work() -> None:
        with progress_bar("working", None) as advance:
            with contextlib.suppress(asyncio.CancelledError):
                is_waiting.set()
                await asyncio.Event().wait()
            advance(1)

    task = asyncio.create_task(work())
    await is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_help_reads_well() -> None:
    """Each command has a line in the list of commands, which is not cut off."""
    commands = guestbook("--help", redis="").stdout.decode().partition("Commands:")[2]
    for name in ("serve", "list", "delete", "clear", "export", "import", "check"):
        assert re.search(rf"^  {name} +\S.*\.$", commands, re.MULTILINE), name
    assert "..." not in commands
