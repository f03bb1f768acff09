"""Handlers for signals that end the process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def exit_by_signal(number: int, _frame: FrameType | None = None) -> NoReturn:
    """End the process as the signal does by default, with the right exit status."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The kernel does not end process 1 of a container.
    os._exit(128 + number)


def handle() -> None:
    """Let these signals end the process at once, without a traceback.

    Process 1 of a container ignores a SIGTERM that has no handler.
    """
    _set_handlers(exit_by_signal)


def _set_handlers(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _SIGNALS:
        # `nohup` lets a process ignore SIGHUP.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


@contextlib.contextmanager
def cleanup_on_signal() -> Iterator[None]:
    """Let a signal first leave this context, for its cleanup, and then end the process."""

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        # A second signal does not wait for the cleanup.
        handle()
        # asyncio catches all other exceptions of a callback.
        raise KeyboardInterrupt(number)

    _set_handlers(interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        exit_by_signal(error.args[0])
    finally:
        handle()
