"""Standard error as a file to which a write never fails.

If the log cannot be written, lines are lost. An exception instead would end the task that logs.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO

# How long to wait for a log that is not being read, before lines are dropped.
_TIMEOUT_MS = 200
_BUFFER = 64 * 1024


class LogFile(io.FileIO):
    """Standard error; lines that cannot be written are dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._timeout_ms = _TIMEOUT_MS
        self._is_line_cut = False

    def write(self, data: Any) -> int:
        """Write as much of the data as possible."""
        left = memoryview(b"\n" + data if self._is_line_cut else bytes(data))
        size = len(left)
        with contextlib.suppress(OSError):
            while left and self._poll.poll(self._timeout_ms):
                # A pipe that is writable takes this much without blocking.
                left = left[os.write(self.fileno(), left[: select.PIPE_BUF]) :]
        # Wait only once for a log that is not being read.
        self._timeout_ms = 0 if left else _TIMEOUT_MS
        if len(left) < size:
            self._is_line_cut = bool(left)
        return len(data)


def open_log() -> TextIO:
    """Return standard error as a LogFile; if it is closed, every line is dropped."""
    if sys.stderr is None:
        return open(os.devnull, "w", encoding="utf-8")
    buffer = io.BufferedWriter(LogFile(2), _BUFFER)
    return io.TextIOWrapper(
        buffer, sys.stderr.encoding, errors="backslashreplace", line_buffering=True
    )
