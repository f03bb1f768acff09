"""The lab: faults caused on purpose, for a course. Imported only where it is switched on.

A load balancer may hand a request to any process, so commands wait in Redis for their process.
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

from guestbook.core import ProblemError, UnavailableError
from guestbook.pod.guestbook import Guestbook
from guestbook.pod.lifespan import cancel
from guestbook.pod.retry import REQUEST_SECONDS
from guestbook.storage import (
    QUEUE_MAX,
    REDIS_ERRORS,
    Command,
    CommandQueue,
    create_client,
    explain,
)

Action = Literal["not-ready", "ready", "freeze", "crash", "burn", "eat", "cut"]

# How long the CPU is used, and how long memory is held if the kernel does not end the process.
_LOAD_SECONDS = 60.0
_FREEZE_SECONDS = 300.0
_THREADS = 4
_DEFAULT_BYTES = 1 << 30
_EXCESS_BYTES = 64 << 20
_CHUNKS = 100
_ALLOCATE_SECONDS = 10.0
_ANNOUNCE_SECONDS = 0.1
_POP_SECONDS = 1
_TIMEOUT = 1.0
_PAUSE_SECONDS = 1.0

logger = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def open_lab(guestbook: Guestbook) -> AsyncIterator[Lab]:
    """Run the commands for this process until the context ends."""
    logger.warning(
        "the lab is on: pods may be broken on purpose",
        by="anyone" if guestbook.settings.admin_token is None else "the admin token",
    )
    async with contextlib.AsyncExitStack() as stack:

        def connect(timeout: float) -> CommandQueue:
            client = create_client(guestbook.settings.redis_url, timeout=timeout)
            stack.push_async_callback(client.aclose)
            return CommandQueue(client)

        # Two clients, because one that waits for a command keeps its connection busy.
        lab = Lab(guestbook, connect(_TIMEOUT), connect(_POP_SECONDS + _TIMEOUT))
        running = asyncio.create_task(lab.run())
        running.add_done_callback(_log_failure)
        try:
            yield lab
        finally:
            await cancel([running])
            await lab.end_faults()


class Lab:
    """Sends commands to any process, and runs those for this one."""

    def __init__(self, guestbook: Guestbook, push_to: CommandQueue, pop_from: CommandQueue) -> None:
        self._guestbook = guestbook
        self._presence = guestbook.presence
        self._push_to = push_to
        self._pop_from = pop_from
        self._faults: dict[str, asyncio.Task[None]] = {}
        # A list, even an empty one, tells the other pods that this one takes commands.
        self._presence.lab = []

    async def send(self, name: str, action: Action) -> None:
        """Send a command to the pod of this name. Raises ProblemError."""
        names = {
            process: record["name"]
            for process, record in self._presence.records().items()
            if "lab" in record and record["state"] == "ready"
        }
        # A process that died and its successor may have the same name.
        processes = [process for process, its_name in names.items() if its_name == name]
        if not processes:
            known = ", ".join(sorted(set(names.values()))) or "none"
            raise ProblemError(
                404, f"No pod {name[:100]} takes commands of the lab; these do: {known}."
            )
        command = Command(action, self._guestbook.name)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                are_queued = [await self._push_to.push(process, command) for process in processes]
        except REDIS_ERRORS as error:
            logger.warning("Redis did not take a lab command", error=explain(error))
            raise UnavailableError("Redis did not take the command in time: try again.") from None
        if not any(are_queued):
            raise ProblemError(
                429,
                f"{QUEUE_MAX} commands are waiting for {name} already.",
                headers={"Retry-After": "1"},
            )

    async def run(self) -> None:
        """Run commands until the process drains. Faults end then, to let it stop."""
        can_read = True
        while True:
            try:
                command = await self._pop_from.pop(self._presence.process, seconds=_POP_SECONDS)
            except REDIS_ERRORS as error:
                if can_read:
                    logger.warning("the lab cannot read its commands", error=explain(error))
                can_read = False
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            can_read = True
            if self._guestbook.fanout.is_draining:
                await self.end_faults()
                return
            if command is not None:
                await self._run_command(command)

    async def _run_command(self, command: Command) -> None:
        logger.warning("lab command received", action=command.action, by=command.by)
        match command.action:
            case "not-ready":
                self._guestbook.manual_not_ready_reason = (
                    f"by hand: POST /lab/{self._guestbook.name}/ready ends it"
                )
            case "ready":
                self._guestbook.manual_not_ready_reason = None
            case "freeze":
                await self._announce_last("freeze")
                # Block the event loop, as a process that hangs does.
                time.sleep(_FREEZE_SECONDS)  # noqa: ASYNC251
            case "crash":
                await self._announce_last("crash")
                logger.error("crashing on purpose: a lab command", by=command.by)
                os._exit(1)
            case "burn":
                self._start("burn", cpu_load(_LOAD_SECONDS))
            case "eat":
                load = memory_load(memory_limit(), over=_ALLOCATE_SECONDS, hold=_LOAD_SECONDS)
                self._start("eat", load)
            case "cut":
                self._guestbook.fanout.cut()
        await self._announce()

    def _start(self, name: str, fault: Coroutine[Any, Any, None]) -> None:
        """Start a fault that lasts; an earlier one of this name ends."""
        if name in self._faults:
            self._faults[name].cancel()
        task = self._faults[name] = asyncio.create_task(fault)
        task.add_done_callback(lambda task: self._on_fault_end(name, task))

    def _on_fault_end(self, name: str, task: asyncio.Task[None]) -> None:
        _log_failure(task)
        if self._faults.get(name) is task:
            del self._faults[name]
            self._presence.lab = self._active()
            self._presence.wake()

    async def end_faults(self) -> None:
        """End the faults that last."""
        await cancel(self._faults.values())

    def _active(self) -> list[str]:
        not_ready = ["not-ready"] if self._guestbook.manual_not_ready_reason else []
        return sorted([*self._faults, *not_ready])

    async def _announce(self, *more: str) -> None:
        """Send a heartbeat with the faults of this pod at once."""
        self._presence.lab = [*self._active(), *more]
        await self._presence.heartbeat()

    async def _announce_last(self, fault: str) -> None:
        """Announce a fault that keeps this process from sending anything later."""
        await self._announce(fault)
        # Give the streams of this process time to receive it too.
        await asyncio.sleep(_ANNOUNCE_SECONDS)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("the lab has failed", exc_info=task.exception())


async def cpu_load(seconds: float) -> None:
    """Use all the CPU that the kernel grants."""
    is_over = threading.Event()
    for _ in range(min(_THREADS, os.cpu_count() or 1)):
        threading.Thread(target=_spin, args=(is_over,), daemon=True).start()
    try:
        await asyncio.sleep(seconds)
    finally:
        is_over.set()


def _spin(is_over: threading.Event) -> None:
    while not is_over.is_set():
        # This releases the interpreter's lock, so the event loop lacks only CPU time.
        hashlib.pbkdf2_hmac("sha256", b"lab", b"lab", 50_000)


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return more bytes than the container may use, or 1 GiB if it has no limit."""
    try:
        return int((cgroup / "memory.max").read_text()) + _EXCESS_BYTES
    except (OSError, ValueError):  # there is no such file, or it has "max"
        return _DEFAULT_BYTES


async def memory_load(size: int, *, over: float, hold: float) -> None:
    """Allocate `size` bytes over some seconds, hold them for some more, and free them."""
    logger.warning("allocating memory", mib=size >> 20)
    chunk_size = size // _CHUNKS
    with contextlib.ExitStack() as chunks:
        for _ in range(_CHUNKS):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            chunk = chunks.enter_context(mmap.mmap(-1, chunk_size, flags=flags))
            # The kernel provides a page when it is written to.
            chunk[:: mmap.PAGESIZE] = bytes(len(range(0, chunk_size, mmap.PAGESIZE)))
            await asyncio.sleep(over / _CHUNKS)
        logger.warning("holding memory", mib=size >> 20, seconds=hold)
        await asyncio.sleep(hold)
