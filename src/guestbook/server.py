"""The server: uvicorn, with its two gaps closed. All that relies on its insides is in here.

uvicorn ends no open stream when it stops and closes its listeners first, so the drain comes
before its own shutdown. And it has no way to hand over an HTTP connection, as it does hand over
a WebSocket, so its protocol gets one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from socket import socket
from types import FrameType
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from guestbook.events import ABORT, DETACH, ConnectionStream

logger = structlog.get_logger(__name__)

# Load balancers keep idle connections for a minute; who closes first must not be the server.
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 4096
_SHUTDOWN_SECONDS = 5


class DetachableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with `guestbook.detach` among the request's extensions."""

    # Not `self.cycle`: of pipelined requests that is the newest, and another one is served.
    _served: RequestResponseCycle | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {DETACH: self.detach, ABORT: self.abort}
        self.scope["extensions"] = extensions

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells the newest request alone: an older one would wait for its client for ever.
        self._dismiss()
        super().connection_lost(exc)

    def _dismiss(self) -> None:
        """Has the request that is served end without a word about an incomplete response."""
        if self._served is not None:
            self._served.disconnected = True
            self._served.message_event.set()
            self._served = None

    def _unsupported_upgrade_warning(self) -> None:
        """Who asks for a WebSocket gets the plain answer; that is not the operator's concern."""

    def abort(self) -> None:
        """Cuts the connection, whatever is still to be sent to a client that does not read."""
        self._dismiss()
        self.transport.abort()

    def detach(self, stream: ConnectionStream) -> bool:
        """Gives the connection to a stream whose head has been sent.

        False where it cannot: the client is gone, or does not know chunks (HTTP/1.0). Requests
        that came behind this one are not answered, because the stream ends with the connection.
        """
        cycle = self._served
        if (
            cycle is None
            or cycle.disconnected
            or cycle.response_complete
            or not (cycle.response_started and cycle.chunked_encoding)
            or cycle.scope["http_version"] != "1.1"
            or self.transport.is_closing()
        ):
            return False
        self._dismiss()
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.connections.discard(self)
        # uvicorn waits for what is in this set before it stops, and calls its `shutdown`.
        connections: set[Any] = self.connections
        connections.add(stream)
        stream.take(self.transport, connections.discard)
        # The parser and this protocol hold each other.
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does
        return True


class Server(uvicorn.Server):
    """uvicorn's server, which takes leave of its clients before it shuts down."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        announce: Callable[[], None],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._drain = drain
        self.received: list[signal.Signals] = []
        """The signals that have asked this server to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but leaves it to the caller to end the process as the signal would."""
        handlers = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops gently at the first signal, at once at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.received.append(signal.Signals(sig))

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """As uvicorn's; when it has returned, the server answers."""
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Ends the streams while the listeners still answer, then everything else."""
        draining = asyncio.ensure_future(self._drain())
        while not draining.done() and not self.force_exit:
            await asyncio.wait((draining,), timeout=0.1)
        draining.cancel()
        if draining.done() and not draining.cancelled() and draining.exception() is not None:
            logger.error("the streams could not be ended", exc_info=draining.exception())
        await super().shutdown(sockets)
        if not self.lifespan.shutdown_event.is_set():
            # uvicorn leaves this out when it is forced; the application's tasks end all the same.
            await self.lifespan.shutdown()


def configure(app: Any, headers: dict[str, str]) -> uvicorn.Config:
    """The configuration for `app`; `headers` go out with every answer, uvicorn's own too."""
    return uvicorn.Config(
        app,
        http=DetachableProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=list(headers.items()),
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
