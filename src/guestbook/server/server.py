"""The server: uvicorn, with its gaps closed. All that relies on its insides is in here.

uvicorn ends no open stream when it stops and closes its listeners first, so the drain comes
before its own shutdown. It has no way to hand over an HTTP connection, as it does hand over a
WebSocket, so its protocol gets one. And it waits for a client for as long as that likes, and
reads as much: what a connection may take is bounded here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, Literal

import httptools
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from guestbook.core import PROBLEM_TYPE, ProblemError, unavailable
from guestbook.server.detach import DetachableProtocol
from guestbook.server.limits import ConnectionTimeouts

logger = structlog.get_logger(__name__)

_BACKLOG = 4096
# What is read of a request's body at most, frames of chunks and all: the application reads less.
_BODY_BYTES = 256 * 1024
# How many requests a client may send ahead of their answers: each is kept until its turn comes.
_PIPELINE = 32

SHUTDOWN_SECONDS = 5
"""How long requests may go on when the process stops."""


class BoundedProtocol(DetachableProtocol):
    """An HTTP connection whose client may send no more, and take no longer, than the bounds say."""

    # Not `self.cycle`: of pipelined requests that is the newest, and another one is served.
    _served: RequestResponseCycle | None = None
    # Which part of a request is being read, and how much has been received since the last part.
    _reading: Literal["head", "body"] | None = None
    _received = 0
    _unsent = 0
    _is_deaf = False
    _fault: ProblemError | None = None

    def __init__(self, *args: Any, waiting: ConnectionTimeouts, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = waiting

    # What is read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting.enter(self)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        while data and not self._is_deaf:
            data = self._parse(data)
        if self._received > self._waiting.settings.max_head_bytes and not self._is_deaf:
            self._bound()

    def _parse(self, data: bytes) -> bytes:
        """Has the parser tell what is in the data; gives what it has to be given then."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._decline_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse(self._fault or ProblemError(400, "This is not a request of HTTP/1.1."))
        return b""

    def _bound(self) -> None:
        if self._reading == "head":
            self._refuse(_too_long_head())
        elif self._received > _BODY_BYTES:
            self._refuse(ProblemError(413, "The body is too long."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = "head"
        if self.cycle is not None:
            self._waiting.expect_request(self)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._waiting.settings.max_head_bytes:
            self._fault = ProblemError(414, "The address is too long.")
            raise self._fault

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return
        self._fault = self._find_fault()
        if self._fault is not None:
            raise self._fault
        super().on_headers_complete()
        self._reading = "body"
        self._received = 0
        # What comes behind the body must not pass for headers (RFC 9110, section 6.5.1).
        self.headers = []

    def _find_fault(self) -> ProblemError | None:
        """Why the request whose head has been read is not served."""
        version = self.parser.get_http_version()
        hosts = [name for name, _ in self.headers].count(b"host")
        most = self._waiting.settings.max_head_bytes
        if version not in ("1.1", "1.0"):
            return ProblemError(400, "Only versions 1.1 and 1.0 of HTTP are spoken here.")
        if hosts > 1 or (not hosts and version == "1.1"):
            return ProblemError(400, "A request has one Host.")
        if self._received > most and sum(len(n) + len(v) for n, v in self.headers) > most:
            return _too_long_head()
        if self.parser.should_upgrade():
            return ProblemError(405, "This is not a proxy.", headers={"Allow": "GET, HEAD"})
        if len(self.pipeline) >= _PIPELINE:
            return unavailable("Too many requests ahead of their answers.")
        return None

    def on_message_complete(self) -> None:
        if self._reading == "head":
            return
        self._reading = None
        self._received = 0
        self._waiting.done(self)
        super().on_message_complete()

    def _decline_upgrade(self) -> bytes:
        """The head that has been read, as if it asked for no other protocol.

        For that one the parser would keep all that follows, the body too.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
                head.append(b"connection:" + b",".join(kept))
            elif name != b"upgrade":
                head.append(b"%s:%s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(head) + b"\r\n\r\n"

    # What is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for each connection."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._reading is None:
            self._waiting.expect_more(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is None:
            self._waiting.expect_more(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = 0
        if self._reading is None and self._is_serving:
            self._waiting.done(self)

    @property
    def _is_serving(self) -> bool:
        return self._served is not None and not self._served.response_complete

    # The end

    def _refuse(self, problem: ProblemError) -> None:
        """Says what is wrong with what is being read, and reads no more of it."""
        self._is_deaf = True
        self._waiting.expect_request(self)
        if self._may_answer():
            self._answer(problem)
            self._dismiss()
            # Were it closed now, the kernel would take the answer back while more comes in.
            self.transport.write_eof()
        elif self._served is None or self._served.response_complete:
            self.transport.write_eof()
        elif self._reading == "body" and self._served is self.cycle:
            self._dismiss()
            self.transport.abort()
        else:
            # What came before is answered, and nothing more.
            if self._reading == "body":
                self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self._served
            last.keep_alive = False

    def _may_answer(self) -> bool:
        """Whether what is answered next is the request that is being read."""
        served = self._served
        if self._reading == "body":
            return served is not None and served is self.cycle and not served.response_started
        return served is None or served.response_complete

    def _answer(self, problem: ProblemError) -> None:
        address = self.client[0] if self.client else ""
        logger.info(
            "refused a request", status=problem.status, reason=problem.detail, address=address
        )
        body = problem.json()
        fields = [*self.server_state.default_headers]
        fields += [
            (name.lower().encode(), value.encode()) for name, value in problem.headers.items()
        ]
        fields += [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)

    def _end(self, problem: ProblemError | None) -> None:
        is_stuck = self.transport.get_write_buffer_size() > 0
        if problem is not None and not is_stuck and not self._is_deaf and self._may_answer():
            self._answer(problem)
        self._dismiss()
        if is_stuck:
            self.transport.abort()
        else:
            self.transport.close()

    def time_out(self) -> bool:
        """Ends the connection; False where its client takes an answer, if slowly."""
        unsent = self.transport.get_write_buffer_size()
        is_moving = unsent and (not self._unsent or unsent < self._unsent)
        self._unsent = unsent
        if is_moving and self._reading is None and not self._is_deaf:
            return False
        late = ProblemError(408, "The request did not come in time.")
        self._end(late if self._reading else None)
        return True

    def evict(self) -> None:
        """Ends the connection, because another one needs its place."""
        full = unavailable("Too many connections: try again.")
        self._end(full if self._reading or self.cycle is None else None)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells the newest request alone: an older one would wait for its client for ever.
        self._dismiss()
        self._waiting.leave(self)
        super().connection_lost(exc)

    def _dismiss(self) -> None:
        """Has the request that is served end without a word about an incomplete response."""
        if self._served is not None:
            self._served.disconnected = True
            self._served.message_event.set()
            self._served = None


def _too_long_head() -> ProblemError:
    return ProblemError(431, "The request's head is too long.")


class Server(uvicorn.Server):
    """uvicorn's server, which takes leave of its clients before it shuts down."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        announce: Callable[[], None],
        drain: Callable[[], Awaitable[None]],
        waiting: ConnectionTimeouts,
    ) -> None:
        super().__init__(config)
        self._waiting = waiting
        self._announce = announce
        self._drain = drain
        self._stopping: asyncio.Future[None] | None = None
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
        if self._stopping is not None:
            self._stopping.get_loop().call_soon_threadsafe(self._stopping.cancel)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; when it has returned, the server answers."""
        await super().startup(sockets)
        self._announce()

    async def main_loop(self) -> None:
        """As uvicorn's, with one turn a second instead of ten, and one as soon as a signal comes.

        So a process costs next to nothing where nothing happens.
        """
        self._stopping = asyncio.get_running_loop().create_future()
        while not await self.on_tick(0):
            await asyncio.wait((self._stopping,), timeout=1)

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, which looks at the clock and the connections each tenth time."""
        if counter % 10 == 0:
            self._waiting.sweep()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams while the listeners still answer, then everything else."""
        draining = asyncio.ensure_future(self._drain())
        for tick in itertools.count():
            if draining.done() or self.force_exit:
                break
            await self.on_tick(tick)
            await asyncio.wait((draining,), timeout=0.1)
        draining.cancel()
        if draining.done() and not draining.cancelled() and draining.exception() is not None:
            logger.error("the streams could not be ended", exc_info=draining.exception())
        await super().shutdown(sockets)
        if not self.lifespan.shutdown_event.is_set():
            # uvicorn leaves this out when it is forced; the application's tasks end all the same.
            await self.lifespan.shutdown()


def configure(app: Any, headers: dict[str, str], waiting: ConnectionTimeouts) -> uvicorn.Config:
    """The configuration for `app`; `headers` go out with every answer, the server's own too."""
    http: Any = functools.partial(BoundedProtocol, waiting=waiting)
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=list(headers.items()),
        backlog=_BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
