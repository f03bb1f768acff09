"""Open a guestbook: make its parts, connect them, and run the tasks that keep it up to date."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any

import structlog

from guestbook.broadcast import Fanout
from guestbook.core import Entry, EntryId, EventLog, LogEntry, UnavailableError
from guestbook.pod.follower import READ_TIMEOUT, Follower
from guestbook.pod.guestbook import Guestbook
from guestbook.pod.presence import TIMEOUT, Presence
from guestbook.settings import Settings
from guestbook.storage import (
    REDIS_ERRORS,
    WAIT_MS,
    HeartbeatReply,
    ModerationStore,
    PipeliningRedis,
    Replicas,
    Store,
    create_client,
)

if TYPE_CHECKING:
    from guestbook.telemetry.tracing import Tracing

# The size of the frames in the log; the messages take about as much again.
_LOG_BYTES = 4 * 1024 * 1024
_COMMAND_TIMEOUT = 1.0
_CANCEL_SECONDS = 0.1

logger = structlog.get_logger(__name__)


def own_name() -> str:
    """Return the name of this process: on Kubernetes, the pod's name."""
    return os.environ.get("HOSTNAME") or socket.gethostname()


def _ignore(*_: object) -> None:
    """Observe nothing."""


@contextlib.asynccontextmanager
async def open_guestbook(
    settings: Settings,
    *,
    observe_lag: Callable[[float], None] = _ignore,
    observe_command: Callable[[str, float], None] = _ignore,
    tracing: Tracing | None = None,
) -> AsyncIterator[Guestbook]:
    """Open the guestbook of this process; on exit tell the other pods that it is gone.

    `observe_lag` is called with the seconds from storing an entry until it was written to the
    streams, `observe_command` with the name of a command and the seconds that Redis took.
    """

    def connect(timeout: float, **options: Any) -> Any:
        client = create_client(settings.redis_url, timeout=timeout, **options)
        stack.push_async_callback(client.aclose)
        return client

    async def read_after(
        cursor: EntryId, count: int
    ) -> tuple[list[Entry], EntryId | None, EntryId]:
        try:
            return await store.replay(cursor, count)
        except REDIS_ERRORS as error:
            raise UnavailableError from error

    # Callbacks between parts that are made later.
    def greeting() -> bytes:
        return presence.event()

    def on_connect() -> None:
        follower.verify_after_reconnect()

    def on_delivered(entries: list[LogEntry]) -> None:
        if presence.clock is None:
            return
        now_ms = presence.clock.time(time.monotonic())
        for entry in entries:
            seconds = max(now_ms - entry.id.ms, 0) / 1000
            observe_lag(seconds)
            if tracing is not None:
                tracing.deliver(entry, seconds, len(fanout))

    def on_reply(reply: HeartbeatReply, asked_at: float, is_back: bool) -> None:
        if is_back:
            follower.wake()
        observe_command("heartbeat", time.monotonic() - asked_at)
        if follower.check(reply, asked_at):
            fanout.reset_lost_cursors(reply.head.last_id, asked_at)

    async with contextlib.AsyncExitStack() as stack:
        # Each part has its own client, because they need different timeouts: a blocking read may
        # take long, a heartbeat may not.
        commands = connect(_COMMAND_TIMEOUT, redis_class=PipeliningRedis)
        store = ModerationStore(commands, settings.retention)
        log = EventLog(settings.max_messages, _LOG_BYTES)
        fanout = Fanout(log, read_after, greeting=greeting, on_delivered=on_delivered)
        presence = Presence(
            Store(connect(TIMEOUT), settings.retention),
            name=own_name(),
            moderation=settings.moderation,
            count_streams=lambda: len(fanout),
            on_change=fanout.set_pods,
            on_reply=on_reply,
        )
        stack.push_async_callback(presence.leave)
        # This class needs one timer for a round trip; redis-py's needs one for each reply.
        reading = connect(READ_TIMEOUT, on_connect=on_connect, redis_class=PipeliningRedis)
        follower = Follower(
            Store(reading, settings.retention),
            log,
            on_entries=fanout.schedule_flush,
            on_break=fanout.reset,
            on_lost=presence.wake,
        )
        tasks = await stack.enter_async_context(
            _supervised(follower.run(), presence.run(), fanout.ping())
        )
        yield Guestbook(
            settings,
            store=store,
            replicas=Replicas(connect(WAIT_MS / 1000 + _COMMAND_TIMEOUT), settings.wait_replicas),
            log=log,
            fanout=fanout,
            follower=follower,
            presence=presence,
            tasks=tasks,
            observe_command=observe_command,
            tracing=tracing,
        )


@contextlib.asynccontextmanager
async def _supervised(
    *coroutines: Coroutine[Any, Any, None],
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run endless tasks during the body. If one ends, log it; the liveness probe reports it."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(_log_end)
    try:
        yield tasks
    finally:
        await cancel(tasks)


async def cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    pending = set(tasks)
    while pending:
        # Repeat it: before Python 3.12, `asyncio.wait_for`, which redis-py uses, may swallow a
        # cancellation.
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_SECONDS)


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        logger.error("a background task has ended", exc_info=task.exception())
