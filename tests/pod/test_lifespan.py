"""An open guestbook: its tasks are supervised, and its exit closes everything."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from guestbook.broadcast import Fanout
from guestbook.core import NewMessage
from guestbook.pod import open_guestbook
from guestbook.settings import Settings
from tests.support.waiting import eventually


async def test_task_that_ends_fails_the_liveness_probe(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has the reason; nothing else of the pod ends with it."""

    async def fail(_: Fanout) -> None:
        raise ValueError("a bug")

    settings = Settings.model_validate({"redis_url": redis_url})
    monkeypatch.setattr(Fanout, "ping", fail)
    with capture_logs() as lines:
        async with open_guestbook(settings) as guestbook:
            await eventually(lambda: guestbook.readiness_problems() == [])
            assert guestbook.liveness_problems() == ["a background task has ended"]
            posted = await guestbook.post(NewMessage.parse("still here"), address="", key=None)
            assert list(guestbook.log.newest()) == [posted.message]
    (line,) = (line for line in lines if line["event"] == "a background task has ended")
    assert isinstance(line["exc_info"], ValueError)


async def test_exit_leaves_no_task_and_no_record(redis_url: str) -> None:
    """Other pods learn at once that this one is gone."""
    settings = Settings.model_validate({"redis_url": redis_url})
    before = asyncio.all_tasks()
    async with open_guestbook(settings) as one, open_guestbook(settings) as two:
        await eventually(lambda: len(one.presence.records()) == 2)
        assert asyncio.all_tasks() > before
        left = two.presence.process
    assert left != one.presence.process
    await eventually(lambda: asyncio.all_tasks() == before)
    async with open_guestbook(settings) as three:
        await eventually(lambda: three.readiness_problems() == [])
        assert list(three.presence.records()) == [three.presence.process]
