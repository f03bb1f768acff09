"""The lab: pods broken on purpose, for a course. Imported only where it is switched on.

An order waits in Redis for the process that it is meant for: a load balancer may hand it to any.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Literal

import structlog

from guestbook.core import ProblemError, unavailable
from guestbook.pod.guestbook import REQUEST_SECONDS, Guestbook
from guestbook.storage import (
    QUEUE_MAX,
    REDIS_ERRORS,
    Command,
    CommandQueue,
    create_client,
    explain,
)

Action = Literal["not-ready", "ready", "freeze", "crash", "burn", "eat", "cut"]

# How long CPU is burnt, and how long memory is held if the kernel does not end it.
_SECONDS = 60.0
_FREEZE_SECONDS = 300.0
_THREADS = 4
_MEMORY = 1 << 30
_MARGIN = 64 << 20
_BITES = 100
_MEAL_SECONDS = 10.0
_LAST_WORDS_SECONDS = 0.1
_LISTEN_SECONDS = 1
_TIMEOUT = 1.0
_PAUSE = 1.0

logger = structlog.get_logger(__name__)


class Lab:
    """Gives orders to any process, and obeys those that are given to this one."""

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook
        self._presence = guestbook.presence
        address = guestbook.settings.redis_url
        # Two clients: one that listens would keep what is sent by it waiting.
        self._giving = CommandQueue(create_client(address, timeout=_TIMEOUT))
        listening = create_client(address, timeout=_LISTEN_SECONDS + _TIMEOUT)
        self._taking = CommandQueue(listening)
        self._deeds: dict[str, asyncio.Task[None]] = {}
        self._presence.lab = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Obeys for as long as the context lasts."""
        logger.warning(
            "the lab is on: pods may be broken on purpose",
            by="anybody" if self._guestbook.settings.admin_token is None else "the admin token",
        )
        obeying = asyncio.create_task(self._obey_all())
        obeying.add_done_callback(_log_failure)
        try:
            yield
        finally:
            obeying.cancel()
            self._end_deeds()
            await asyncio.gather(obeying, *self._deeds.values(), return_exceptions=True)
            for orders in (self._giving, self._taking):
                await orders.close()

    async def give(self, name: str, action: Action) -> None:
        """Gives an order to the pod of this name. Raises ProblemError."""
        able = {
            process: said["name"]
            for process, said in self._presence.records().items()
            if "lab" in said and said["state"] == "ready"
        }
        # A name may be that of a process which has died and of its successor.
        meant = [process for process, its_name in able.items() if its_name == name]
        if not meant:
            names = ", ".join(sorted(set(able.values()))) or "none"
            raise ProblemError(
                404, f"There is no pod {name[:100]} that takes orders; those that do: {names}."
            )
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                order = Command(action, self._guestbook.name)
                are_given = [await self._giving.push(process, order) for process in meant]
        except REDIS_ERRORS as error:
            logger.warning("Redis did not take an order", error=explain(error))
            raise unavailable("Redis did not take the order in time: try again.") from None
        if not any(are_given):
            raise ProblemError(
                429,
                f"{QUEUE_MAX} orders are waiting for {name} already.",
                headers={"Retry-After": "1"},
            )

    async def _obey_all(self) -> None:
        """Until this process takes leave, which nothing may hinder."""
        is_deaf = False
        while True:
            try:
                order = await self._taking.pop(self._presence.process, seconds=_LISTEN_SECONDS)
            except REDIS_ERRORS as error:
                if not is_deaf:
                    logger.warning("the lab cannot hear any orders", error=explain(error))
                is_deaf = True
                await asyncio.sleep(_PAUSE)
                continue
            is_deaf = False
            if self._guestbook.fanout.is_draining:
                self._end_deeds()
                return
            if order is not None:
                await self._obey(order)

    async def _obey(self, order: Command) -> None:
        logger.warning("an order of the lab", action=order.action, by=order.by)
        match order.action:
            case "not-ready":
                self._guestbook.manual_not_ready_reason = (
                    f"by hand: POST /lab/{self._guestbook.name}/ready ends it"
                )
            case "ready":
                self._guestbook.manual_not_ready_reason = None
            case "freeze":
                await self._say_last("freeze")
                # Nothing else runs meanwhile: that is what it is for.
                time.sleep(_FREEZE_SECONDS)  # noqa: ASYNC251
            case "crash":
                await self._say_last("crash")
                logger.error("the process ends at once: an order of the lab", by=order.by)
                os._exit(1)
            case "burn":
                self._begin("burn", burn(_SECONDS))
            case "eat":
                self._begin("eat", eat(memory_bound(), over=_MEAL_SECONDS, hold=_SECONDS))
            case "cut":
                self._guestbook.fanout.cut()
        await self._say()

    def _begin(self, name: str, deed: Coroutine[Any, Any, None]) -> None:
        """Begins what takes a while; what was begun before under this name ends."""
        if name in self._deeds:
            self._deeds[name].cancel()
        task = self._deeds[name] = asyncio.create_task(deed)
        task.add_done_callback(lambda task: self._note_end(name, task))

    def _note_end(self, name: str, task: asyncio.Task[None]) -> None:
        _log_failure(task)
        if self._deeds.get(name) is task:
            del self._deeds[name]
            self._presence.lab = self._state()
            self._presence.wake()

    def _end_deeds(self) -> None:
        for task in self._deeds.values():
            task.cancel()

    def _state(self) -> list[str]:
        return sorted(
            [*self._deeds, *(["not-ready"] if self._guestbook.manual_not_ready_reason else [])]
        )

    async def _say(self, *more: str) -> None:
        """Has everybody told at once what has been done to this pod."""
        self._presence.lab = [*self._state(), *more]
        await self._presence.heartbeat()

    async def _say_last(self, word: str) -> None:
        """As `_say`, where nothing can be said afterwards."""
        await self._say(word)
        # Its own streams hear of it too.
        await asyncio.sleep(_LAST_WORDS_SECONDS)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("the lab has failed", exc_info=task.exception())


async def burn(seconds: float) -> None:
    """Uses all the CPU that it gets."""
    is_over = threading.Event()
    for _ in range(min(_THREADS, os.cpu_count() or 1)):
        threading.Thread(target=_spin, args=(is_over,), daemon=True).start()
    try:
        await asyncio.sleep(seconds)
    finally:
        is_over.set()


def _spin(is_over: threading.Event) -> None:
    while not is_over.is_set():
        # Without the interpreter's lock: only the CPU is taken from the event loop.
        hashlib.pbkdf2_hmac("sha256", b"lab", b"lab", 50_000)


def memory_bound(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many bytes to eat: more than the container may have; without a limit 1 GiB."""
    try:
        return int((cgroup / "memory.max").read_text()) + _MARGIN
    except (OSError, ValueError):  # no such file; or "max", which means none
        return _MEMORY


async def eat(size: int, *, over: float, hold: float) -> None:
    """Takes so many bytes over some seconds, holds them for some more, gives them back."""
    logger.warning("eating memory", mib=size >> 20)
    bite = size // _BITES
    with contextlib.ExitStack() as stomach:
        for _ in range(_BITES):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            memory = stomach.enter_context(mmap.mmap(-1, bite, flags=flags))
            # The kernel gives a page when it is written to.
            memory[:: mmap.PAGESIZE] = bytes(len(range(0, bite, mmap.PAGESIZE)))
            await asyncio.sleep(over / _BITES)
        logger.warning("holding memory", mib=size >> 20, seconds=hold)
        await asyncio.sleep(hold)
