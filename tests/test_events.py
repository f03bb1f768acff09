"""The stream: what comes, in which order, from which cursor on."""

from __future__ import annotations

import httpx

from tests.conftest import Serve
from tests.processes import Server
from tests.stream import EventStream


async def test_posted_message_reaches_open_stream(
    server: Server, client: httpx.AsyncClient
) -> None:
    """What is posted on a pod arrives on its streams as the API gives it."""
    async with EventStream(server.url) as stream:
        assert (await stream.until("pods")).data["streams"] == 1
        answer = await client.post("/messages", json={"text": "hello", "author": "Ada"})
        event = await stream.until("message")
        assert event.data == answer.json()
        assert event.id == answer.json()["id"]


async def test_streams_of_two_pods_agree(serve: Serve) -> None:
    """Two pods on one Redis give the same messages in the same order."""
    one, two = await serve("pod-a"), await serve("pod-b")
    async with EventStream(one.url) as left, EventStream(two.url) as right:
        async with httpx.AsyncClient() as client:
            for number, pod in enumerate([one, two] * 5):
                await client.post(f"{pod.url}/messages", json={"text": str(number)})
        assert await left.messages(10) == await right.messages(10)
