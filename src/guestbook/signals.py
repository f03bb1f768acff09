"""How the process ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def end_as(number: int) -> NoReturn:
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
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    end_as(number)
