"""How the process ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def exit_by_signal(number: int) -> NoReturn:
    """Ends the process as if the signal had never been handled: its exit status tells of it."""
    # In a handler the stream may be at work, and who would read it may be gone.
    with contextlib.suppress(OSError, RuntimeError):
        sys.stdout.flush()
        sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The kernel spares process 1 of a container.
    os._exit(128 + number)


def handle() -> None:
    """Has the process end at SIGTERM and SIGINT, without a traceback, wherever it stands.

    Process 1 of a container would otherwise not even notice a SIGTERM.
    """
    for number in _NUMBERS:
        signal.signal(number, _end)


class Ended(KeyboardInterrupt):
    """A signal came. Of this kind, for asyncio lets no other out of a callback."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def cleanup_on_signal() -> Iterator[None]:
    """Has a signal end the process as ever, but leave the context first, which may tidy up."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        # Who sends another does not want to wait for that.
        handle()
        raise Ended(number)

    for number in _NUMBERS:
        signal.signal(number, leave)
    try:
        yield
    except Ended as ended:
        exit_by_signal(ended.number)
    finally:
        handle()


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    exit_by_signal(number)
