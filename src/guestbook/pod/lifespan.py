"""Open a guestbook: make its parts, connect them, and run the tasks that keep it up to date."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog

from guestbook import __version__
from guestbook.broadcast import Fanout, ReplayUnavailableError
from guestbook.core import Entry, EntryId, EventLog, LogEntry
from guestbook.pod.follower import BLOCK_MS, Follower
from guestbook.pod.guestbook import Guestbook
from guestbook.pod.presence import TIMEOUT, Presence
from guestbook.settings import Settings
from guestbook.storage import (
    REDIS_ERRORS,
    WAIT_MS,
    HeartbeatReply,
    PipeliningRedis,
    Replicas,
    Store,
    create_client,
)

if TYPE_CHECKING:
    from guestbook.telemetry.tracing import Tracing

_LOG_BYTES = 8 * 1024 * 1024
_COMMAND_TIMEOUT = 1.0

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
    """Open the guestbook of this process; on exit the other pods learn that it is gone.

    `observe_lag` gets the seconds from Redis's time of an entry until it was written to the
    streams; `observe_command` gets the name of a command and the seconds that Redis took.
    """
    guestbook, running = build(
        settings, observe_lag=observe_lag, observe_command=observe_command, tracing=tracing
    )
    async with running:
        yield guestbook


def build(
    settings: Settings,
    *,
    observe_lag: Callable[[float], None] = _ignore,
    observe_command: Callable[[str, float], None] = _ignore,
    tracing: Tracing | None = None,
) -> tuple[Guestbook, contextlib.AbstractAsyncContextManager[None]]:
    """Make a guestbook, and the context in which its tasks run."""
    stores: list[Store] = []

    def connect(timeout: float, **options: Any) -> Store:
        client = create_client(settings.redis_url, timeout=timeout, **options)
        stores.append(Store(client, settings.retention))
        return stores[-1]

    # Each has a client of its own, because a timeout that suits one is wrong for the others: the
    # follower's answers may take as long as its blocking read, the heartbeat's may not.
    store = connect(_COMMAND_TIMEOUT, redis_class=PipeliningRedis)
    replicas = Replicas(connect(WAIT_MS / 1000 + _COMMAND_TIMEOUT), settings.wait_replicas)
    log = EventLog(settings.max_messages, _LOG_BYTES)
    data_loss = _DataLoss(log)

    async def read_after(
        cursor: EntryId, count: int
    ) -> tuple[list[Entry], EntryId | None, EntryId]:
        try:
            page, trimmed = await store.replay(cursor, count)
        except REDIS_ERRORS as error:
            raise ReplayUnavailableError from error
        return page.entries, page.reached, trimmed

    def on_delivered(entries: list[LogEntry]) -> None:
        if presence.clock is None:
            return
        now_ms = presence.clock.time(time.monotonic())
        for entry in entries:
            seconds = max(now_ms - entry.id.ms, 0) / 1000
            observe_lag(seconds)
            if tracing is not None:
                tracing.deliver(entry, seconds, len(fanout))

    def on_reply(reply: HeartbeatReply, asked_at: float) -> None:
        observe_command("heartbeat", time.monotonic() - asked_at)
        if data_loss.is_shown_by(reply):
            logger.warning("Redis has lost data: reading it anew", last=str(reply.last_id))
            follower.mark_stale()
        fanout.confirm(reply.last_id, asked_at)

    # Parts that call each other: one of two is made before the other.
    def greeting() -> bytes:
        return presence.greeting()

    def on_return() -> None:
        follower.wake()

    def on_connect() -> None:
        follower.verify_after_reconnect()

    fanout = Fanout(log, read_after, greeting=greeting, on_delivered=on_delivered)
    presence = Presence(
        connect(TIMEOUT),
        name=own_name(),
        version=__version__,
        count_streams=lambda: len(fanout),
        on_change=fanout.set_pods,
        on_reply=on_reply,
        on_return=on_return,
    )
    follower = Follower(
        connect(BLOCK_MS / 1000 + _COMMAND_TIMEOUT, on_connect=on_connect),
        log,
        on_entries=fanout.wake,
        on_break=fanout.reset,
        on_lost=presence.wake,
    )
    tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for each in stores:
                stack.push_async_callback(each.close)
            stack.push_async_callback(replicas.close)
            stack.push_async_callback(presence.leave)
            work = (follower.run(), presence.run(), fanout.ping())
            await stack.enter_async_context(_supervised(tasks, *work))
            yield

    guestbook = Guestbook(
        settings,
        store=store,
        replicas=replicas,
        log=log,
        fanout=fanout,
        follower=follower,
        presence=presence,
        tasks=tasks,
        observe_command=observe_command,
        tracing=tracing,
    )
    return guestbook, running()


class _DataLoss:
    """Compares heartbeats: whether Redis has other data than before."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._dataset_id = ""
        self._added = 0
        self._last = log.last

    def is_shown_by(self, reply: HeartbeatReply) -> bool:
        is_shown = (
            self._dataset_id not in ("", reply.dataset_id)
            or reply.last_id < self._last
            or reply.entries_added < self._added
        )
        self._dataset_id = reply.dataset_id
        self._added = reply.entries_added
        # Compared with the next answer: what this process had read before it was asked for.
        self._last = min(self._log.last, reply.last_id) if is_shown else self._log.last
        return is_shown


@contextlib.asynccontextmanager
async def _supervised(
    tasks: list[asyncio.Task[None]], *coroutines: Coroutine[Any, Any, None]
) -> AsyncIterator[None]:
    """Run endless tasks beside the body. One that ends is logged, and stays in `tasks`."""
    tasks += [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(_log_end)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        logger.error("a background task has ended", exc_info=task.exception())
