"""uvicorn's server, with a drain before its shutdown.

At SIGTERM uvicorn closes its listeners and waits for all connections, which event streams would
keep open. So the streams are ended first, while the listeners still answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import structlog
import uvicorn

from guestbook.server.limits import BoundedProtocol, Bounds
from guestbook.server.proxies import TrustedProxies

logger = structlog.get_logger(__name__)

_BACKLOG = 4096

SHUTDOWN_SECONDS = 5
"""How long requests may take to finish when the process stops."""


class Server(uvicorn.Server):
    """uvicorn's server with a drain.

    `announce` is called as soon as the server answers, `drain` when it has been asked to stop. In
    the end uvicorn raises the signal again that stopped it.
    """

    def __init__(
        self,
        app: Any,
        bounds: Bounds,
        *,
        announce: Callable[[], None],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(_configure(app, bounds))
        self._announce = announce
        self._drain = drain
        self._stopping: asyncio.Future[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop for a closed terminal (SIGHUP) too, unless `nohup` has the process ignore it."""
        with super().capture_signals():
            handler = signal.getsignal(signal.SIGHUP)
            if handler != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully at the first signal, immediately at the second."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)
        if self._stopping is not None:
            self._stopping.get_loop().call_soon_threadsafe(self._stopping.cancel)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and announce it."""
        await super().startup(sockets)
        self._announce()

    async def main_loop(self) -> None:
        """Tick once a second instead of ten times, and as soon as a signal arrives.

        So an idle process uses next to no CPU.
        """
        self._stopping = asyncio.get_running_loop().create_future()
        while not await self.on_tick(0):
            await asyncio.wait((self._stopping,), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams while the listeners still answer, then everything else."""
        draining = asyncio.ensure_future(self._drain())
        while not (draining.done() or self.force_exit):
            await self.on_tick(0)
            await asyncio.wait((draining,), timeout=0.1)
        draining.cancel()
        if draining.done() and not draining.cancelled() and draining.exception() is not None:
            logger.error("the streams could not be ended", exc_info=draining.exception())
        await super().shutdown(sockets)
        if not self.lifespan.shutdown_event.is_set():
            # uvicorn skips this when it is forced to stop; the application's tasks must end, too.
            await self.lifespan.shutdown()


def _configure(app: Any, bounds: Bounds) -> uvicorn.Config:
    """Return the configuration for `app`."""
    protocol: Any = functools.partial(BoundedProtocol, bounds)
    config = uvicorn.Config(
        app,
        proxy_headers=False,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        callback_notify=bounds.timeouts.sweep,
        timeout_notify=0,  # at each tick
    )
    config.app = TrustedProxies(app, config.forwarded_allow_ips)
    return config
