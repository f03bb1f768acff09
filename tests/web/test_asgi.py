"""The application on another server: a real `uvicorn guestbook.asgi:app` process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from guestbook.web.security_headers import SECURITY_HEADERS
from tests.support.messages import post
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


class Uvicorn(Server):
    """A pod that uvicorn serves as it serves any application."""

    def start(self, *arguments: str, under: tuple[str, ...] = ()) -> Self:
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "uvicorn", "guestbook.asgi:app", *address],
                env=self.env,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                process_group=0,
            )
        return self


@pytest.fixture(scope="module")
async def pod(
    tmp_path_factory: pytest.TempPathFactory, shared_valkey: Valkey
) -> AsyncIterator[Uvicorn]:
    log, redis = tmp_path_factory.mktemp("uvicorn") / "log", shared_valkey.new_database()
    with Uvicorn(log, redis, GUESTBOOK_DRAIN_SECONDS="0.2") as server:
        yield await server.ready()


async def test_every_answer_has_the_security_headers_once(pod: Uvicorn) -> None:
    """Pages, files, the API, errors and the stream, also for HEAD; and each has an id."""
    async with pod.client() as client:
        page = await client.get("/")
        assert page.status_code == 200
        file = page.text.partition('href="/static/')[2].partition('"')[0]
        answers = [
            page,
            await client.get("/", headers={"If-None-Match": page.headers["etag"]}),
            await client.head("/"),
            await client.get(f"/static/{file}"),
            await client.post("/messages", data={"text": "by a form"}),
            await client.post("/messages", json={"text": "as JSON"}),
            await client.post("/messages", json={}),
            await client.get("/nowhere"),
            await client.put("/messages"),
        ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 304, 200, 200, 303, 201, 422, 404, 405]
    assert answers[2].content == b""
    async with EventStream(pod.url) as stream:
        for name, value in SECURITY_HEADERS.items():
            assert [answer.headers.get_list(name) for answer in answers] == [[value]] * 9
            assert stream.head.headers[name.lower()] == value
        assert all(len(answer.headers.get_list("x-request-id")) == 1 for answer in answers)
        assert stream.head.headers["x-request-id"]


async def test_stream_has_every_event_once_and_in_order(pod: Uvicorn) -> None:
    """While others post, a reader that is cut off again and again misses nothing."""
    texts = [str(number) for number in range(60)]
    read: list[Any] = []
    async with pod.client() as client:
        cursor = (await post(client, "start"))["id"]

    async def post_all() -> None:
        async with pod.client() as client:
            for text in texts:
                await post(client, text)

    posting = asyncio.create_task(post_all())
    while len(read) < len(texts):
        async with EventStream(pod.url, last_event_id=cursor) as stream:
            events = await stream.entries(min(7, len(texts) - len(read)))
        read += events
        cursor = events[-1].id
    await posting
    assert [event.data["text"] for event in read] == texts


async def test_each_request_has_one_line_in_the_log(pod: Uvicorn) -> None:
    """The application's access log is enough: uvicorn's would repeat it."""
    async with pod.client() as client:
        await client.get("/asked-once")
    await eventually(lambda: "asked-once" in pod.lines())
    (line,) = [line for line in pod.lines().splitlines() if "asked-once" in line]
    assert json.loads(line)["event"] == "request"


def test_wrong_setting_is_named_in_one_line(redis_url: str) -> None:
    """Importing the application then ends the process, without a traceback."""
    ended = subprocess.run(
        [sys.executable, "-c", "import guestbook.asgi"],
        env={**os.environ, "REDIS_URL": redis_url, "GUESTBOOK_MAX_MESSAGES": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("guestbook: GUESTBOOK_MAX_MESSAGES")
    assert ended.stderr.count("\n") == 1


async def test_sigterm_ends_the_streams_and_then_the_process(pod: Uvicorn) -> None:
    """Each stream gets `bye` and its last chunk; the log has no failure in it.

    The last test here, because it ends the server.
    """
    async with EventStream(pod.url) as stream:
        await stream.until("pods")
        pod.signal(signal.SIGTERM)
        await stream.until("bye")
        assert await stream.rest() == []
        assert stream.is_complete
        # uvicorn ends as the signal would have ended it.
        assert await pod.ended(within=5) in (0, -signal.SIGTERM)
    assert {record["level"] for record in pod.records()} == {"info"}
