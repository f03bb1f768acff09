"""End the streams at SIGTERM, for servers that do not do so."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from guestbook.pod import Guestbook


@contextlib.contextmanager
def drain_on_signal(guestbook: Guestbook) -> Iterator[None]:
    """Drain the guestbook at SIGTERM or SIGINT, then call the handler that the server installed.

    Servers wait for the responses that are still open, and a stream does not end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python does not let other threads handle signals.
        yield
        return
    loop = asyncio.get_running_loop()
    servers_handlers = {
        number: handler
        for number in (signal.SIGTERM, signal.SIGINT)
        if callable(handler := signal.getsignal(number))
    }

    def handle(number: int, frame: FrameType | None) -> None:
        drain = guestbook.drain(guestbook.settings.drain_seconds)
        asyncio.run_coroutine_threadsafe(drain, loop)
        servers_handlers[signal.Signals(number)](number, frame)

    for number in servers_handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in servers_handlers.items():
            signal.signal(number, handler)
