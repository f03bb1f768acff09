"""The follower: a loss of data is noticed once, and failing logs do not end its task."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from guestbook.core import EventLog, Message, NewMessage, UnavailableError
from guestbook.pod import open_guestbook
from guestbook.pod.follower import Follower
from guestbook.pod.lifespan import cancel
from guestbook.settings import Settings
from guestbook.storage import Archive, Store, create_client
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


class Watched:
    """A follower with the store that it reads, and a count of how often its log was reloaded."""

    def __init__(self, store: Store, reading: Store) -> None:
        self.store = store
        self.log = EventLog(100, 10_000)
        self.reloads = 0
        self.follower = Follower(
            reading, self.log, on_entries=lambda: None, on_break=self._count, on_lost=lambda: None
        )

    def _count(self) -> None:
        self.reloads += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the follower, as after a lost connection."""
        self.follower.verify_after_reconnect()
        task = asyncio.create_task(self.follower.run())
        yield
        # Again and again: redis-py may swallow a cancellation.
        await cancel([task])

    def has_reloaded(self, times: int) -> bool:
        """Whether the log was reloaded so often."""
        return self.reloads == times

    async def edit(self, message: Message, text: str) -> None:
        """Store an edit."""
        options: dict[str, Any] = {"key": text, "address": "", "rate": None, "until_ms": 0}
        assert await self.store.edit(message, text, **options) is not None

    async def post(self, text: str) -> Message:
        """Store a message, and wait until the follower has read it."""
        stored = await self.store.post(
            NewMessage.parse(text), "pod-a", key=text, address="", rate=None, until_ms=0
        )
        await eventually(lambda: self.log.get(stored.message.id) is not None)
        return stored.message

    async def heartbeat(self, dataset_id: str) -> bool:
        """Let the follower check a heartbeat, which names a dataset that has no id."""
        asked_at = time.monotonic()
        reply = await self.store.heartbeat("pod-a/1", {}, dataset_id)
        return self.follower.check(reply, asked_at)


def _settings(valkey: Valkey) -> Settings:
    return Settings.model_validate({"redis_url": valkey.address})


@pytest.fixture
async def stopped(valkey: Valkey) -> AsyncIterator[Watched]:
    """A follower that is not running."""
    settings = _settings(valkey)
    clients = [create_client(settings.redis_url, timeout=5) for _ in range(2)]
    stores = [Store(client, settings.retention) for client in clients]
    yield Watched(*stores)
    for client in clients:
        await client.aclose()


@pytest.fixture
async def watched(stopped: Watched) -> AsyncIterator[Watched]:
    """A follower that is running."""
    async with stopped.running():
        yield stopped


async def test_loss_that_the_follower_notices_is_none_for_the_heartbeat(
    watched: Watched, valkey: Valkey
) -> None:
    """The log is loaded once: the next heartbeat is compared with what was loaded."""
    await watched.post("old")
    assert await watched.heartbeat("one")
    async with valkey.client() as redis:
        await redis.flushall()
    watched.follower.verify_after_reconnect()
    await eventually(lambda: watched.reloads == 1)
    assert await watched.heartbeat("two")
    await watched.post("new")
    assert await watched.heartbeat("two")
    assert watched.reloads == 1


async def test_loss_that_the_heartbeat_notices_is_none_for_the_follower(
    watched: Watched, valkey: Valkey
) -> None:
    """The log is loaded once, and the follower finds in Redis what it has loaded."""
    await watched.post("old")
    assert await watched.heartbeat("one")
    async with valkey.client() as redis:
        await redis.flushall()
    assert not await watched.heartbeat("two")
    watched.follower.verify_after_reconnect()
    await eventually(lambda: watched.reloads == 1)
    assert await watched.heartbeat("two")
    await watched.post("new")
    assert watched.reloads == 1


async def test_second_loss_is_noticed_after_the_first(watched: Watched, valkey: Valkey) -> None:
    """A second loss is noticed even if the new stream has newer ids."""
    for number in range(3):
        await watched.post(f"old {number}")
        assert await watched.heartbeat(str(number))
        async with valkey.client() as redis:
            await redis.flushall()
        await watched.post(f"new {number}")
        assert not await watched.heartbeat(f"other {number}")
        await eventually(functools.partial(watched.has_reloaded, number + 1))
        assert await watched.heartbeat(str(number))


async def test_reply_that_is_older_than_the_log_is_ignored(
    watched: Watched, valkey: Valkey
) -> None:
    """A heartbeat that was requested before the log was loaded proves nothing."""
    asked_at = time.monotonic()
    old = await watched.store.heartbeat("pod-a/1", {}, "one")
    await watched.post("new")
    assert await watched.heartbeat("one")
    assert not watched.follower.check(old, asked_at)
    assert watched.reloads == 0


async def test_edits_that_are_gone_are_no_loss(stopped: Watched) -> None:
    """Each of these replaces what the follower has read last while it has no connection."""
    async with stopped.running():
        message = await stopped.post("one")
    for number, change in enumerate(("edited", "edited twice", "deleted")):
        async with stopped.running():
            await stopped.edit(message, f"two {number}")
            await eventually(functools.partial(_has_text, stopped, message, f"two {number}"))
        if change != "edited":
            await stopped.edit(message, f"three {number}")
        await stopped.edit(message, f"four {number}")
        text: str | None = f"four {number}"
        if change == "deleted":
            await stopped.store.delete(message.id, key="deleted", until_ms=0)
            text = None
        async with stopped.running():
            await eventually(functools.partial(_has_text, stopped, message, text))
            assert stopped.reloads == 0


async def test_messages_that_were_cleared_are_loaded_once(stopped: Watched, valkey: Valkey) -> None:
    """The entry that remains of them is none that a follower decodes, and no loss either."""
    settings = _settings(valkey)
    async with create_client(settings.redis_url, timeout=5) as client, stopped.running():
        await stopped.post("one")
        await Archive(client, settings.retention).clear()
        await eventually(lambda: stopped.reloads == 1)
    async with stopped.running():
        await stopped.post("two")
        assert stopped.reloads == 1


def _has_text(watched: Watched, message: Message, text: str | None) -> bool:
    found = watched.log.get(message.id)
    return (found.text if found else None) == text


@pytest.fixture
def broken_log() -> Iterator[None]:
    """Make every log line raise, like a closed standard error."""

    def fail(*_: Any) -> Any:
        raise BrokenPipeError

    structlog.configure(processors=[fail])
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("broken_log")
async def test_tasks_survive_a_log_that_cannot_be_written(valkey: Valkey) -> None:
    """Redis goes away and comes back empty: the pod is ready again and shows posts."""
    valkey.options = ("--appendonly", "no")
    valkey.kill()
    valkey.start()
    async with open_guestbook(_settings(valkey)) as guestbook:

        async def is_posted(text: str) -> bool:
            new = NewMessage.parse(text)
            with contextlib.suppress(UnavailableError, BrokenPipeError):
                stored = await guestbook.post(new, address="", key=text)
                return guestbook.log.get(stored.message.id) is not None
            return False

        await eventually(lambda: is_posted("before"))
        valkey.kill()
        await eventually(lambda: guestbook.presence.error is not None)
        valkey.start()
        await eventually(lambda: guestbook.readiness_problems() == [])
        await eventually(lambda: is_posted("after"))
        assert [message.text for message in guestbook.log.newest()] == ["after"]
        assert guestbook.liveness_problems() == []
