"""The moderators' commands, while a pod runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx
import pytest

from tests.conftest import Serve
from tests.support.servers import guestbook
from tests.support.valkey import redis_client
from tests.support.waiting import eventually


async def test_commands_decide_for_running_pods(serve: Serve, redis_url: str) -> None:
    """A pod follows the commands' decisions about messages, posts and networks within seconds."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN="let-me")

    def run(*arguments: str) -> tuple[int, str]:
        done = guestbook(*arguments, redis=redis_url)
        return done.returncode, (done.stdout + done.stderr).decode()

    async with server.client() as api:

        async def post(text: str) -> httpx.Response:
            return await api.post("/messages", json={"text": text})

        async def is_answered(status: int) -> bool:
            return (await post("text")).status_code == status

        assert run("moderation", "before")[0] == 0
        await eventually(lambda: is_answered(202))
        first, *_ = [json.loads(line) for line in run("held", "--json")[1].splitlines()]
        assert first["text"] == "text"
        assert run("approve", first["id"]) == (0, "guestbook: approved 1 message\n")
        assert run("refuse", first["id"])[0] == 1
        run("moderation", "default")
        await eventually(lambda: is_answered(201))
        run("close", "--message", "Back at nine.")
        await eventually(lambda: is_answered(403))
        assert (await post("x")).json()["detail"] == "Back at nine."
        assert "Back at nine." in (await api.get("/")).text
        run("open")
        await eventually(lambda: is_answered(201))
        message = (await post("mine")).json()
        status, said = run("ban", message["id"], "--for", "1h")
        assert (status, said[:33]) == (0, "guestbook: banned 127.0.0.1/32 un")
        await eventually(lambda: is_answered(403))
        assert (await post("x")).json()["code"] == "banned"
        assert run("bans")[1].endswith("  127.0.0.1/32\n")
        assert run("unban", "::ffff:127.0.0.1")[0] == 0
        await eventually(lambda: is_answered(201))
        assert run("unban", "127.0.0.1")[0] == 1
        assert run("ban", "::1", "--for", "367d") == (
            2,
            "guestbook: --for should be at most 366d\n",
        )
        assert run("ban", "here", "--for", "1h")[0] == run("ban", "::1", "--for", "x")[0] == 2


async def test_queue_stays_when_all_messages_go(redis_url: str) -> None:
    """`clear` and `import --replace` leave what waits; `refuse -` removes what it reads."""

    def run(*arguments: str, given: bytes = b"") -> bytes:
        done = guestbook(*arguments, redis=redis_url, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async with redis_client(redis_url) as redis:
        for number in (1, 2):
            fields = {"text": f"number {number}", "pod": "p"}
            await redis.xadd("{guestbook}:held", fields, id=f"{number}-1000000000")
        run("clear", "--yes")
        line = {"id": "1-0", "author": None, "text": "imported", "pod": "p"}
        run("import", "--replace", "-", given=json.dumps(line).encode())
        waiting = run("held", "--json")
        assert [word in waiting for word in (b"number 1", b"number 2", b"imported")] == [
            *(True, True, False)
        ]
        run("refuse", "-", given=waiting)
        assert run("held") == b""
        assert b"imported" in run("list")


@pytest.mark.parametrize(
    "arguments",
    [
        ("close", "--message", b"\xff"),
        ("import", "--legacy-list", b"\xff"),
        ("ban", b"\xff"),
        ("ban", "5"),
        ("ban", ""),
        ("unban", b"\xff"),
        ("approve", b"\xff"),
        ("moderation", b"\xff"),
    ],
)
def test_odd_argument_is_one_line(redis_url: str, arguments: tuple[str | bytes, ...]) -> None:
    """A failed command gives its reason once, and does not blame Redis."""
    done = guestbook(*map(os.fsdecode, arguments), redis=redis_url)
    assert done.returncode == 2
    assert done.stderr.startswith(b"guestbook: "), done.stderr
    assert done.stderr.count(b"\n") == 1, done.stderr


def test_clear_without_standard_input(redis_url: str) -> None:
    """A closed standard input cannot confirm."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m guestbook clear <&-"],
        env=os.environ | {"REDIS_URL": redis_url},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
