"""A Redis that lost its data: the pod notices it, and tells each stream once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.metrics import sample
from tests.support.servers import Server
from tests.support.sse import Event, EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


async def _heartbeats(pod: Server) -> float:
    """Return how many heartbeats Redis has answered."""
    return await sample(pod, "guestbook_redis_command_seconds_count", command="heartbeat")


@pytest.mark.slow
async def test_redis_that_comes_back_empty_resets_each_stream_once(
    serve: Serve, tmp_path: Path
) -> None:
    """The follower and the heartbeat both notice the loss, but the log is loaded once."""
    with Valkey(tmp_path / "forgetful", "--appendonly", "no") as valkey:
        pod = await serve("pod-a", redis=valkey.address)
        async with pod.client() as http, EventStream(pod.url) as stream:
            for number in range(5):
                await http.post("/messages", json={"text": f"number {number}"})
                events: list[Event] = []
                while not events or events[-1].name != "message":
                    events += await stream.entries(1)
                assert [event.name for event in events[:-1]] == ["reset"] * min(number, 1)
                valkey.kill()
                valkey.start()
                await pod.ready()
                beaten = await _heartbeats(pod)

                async def has_beaten(least: float = beaten + 3) -> bool:
                    return await _heartbeats(pod) >= least

                await eventually(has_beaten)
