"""Standard output that writes everything or fails, and standard error that never fails.

Python's own standard streams do neither: without a buffer (PYTHONUNBUFFERED) they ignore that the
kernel took only a part, and an error while an error is being logged would end the task that logs.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, NoReturn

# How long to wait for a log that is not being read, before lines are dropped.
_PATIENCE_MS = 200


class OutputError(Exception):
    """Something that a command writes cannot be written; the text names the file."""

    def __init__(self, name: str, error: OSError) -> None:
        is_closed = error.errno == errno.EBADF
        super().__init__(f"{name}: {'it is closed' if is_closed else error.strerror}")
        self.is_broken_pipe = isinstance(error, BrokenPipeError)


class _File(io.RawIOBase):
    """An open file descriptor to write to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True


class OutputFile(_File):
    """A file to which everything is written. Raises OutputError, once, if that is impossible."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self._name = name
        self._has_failed = False

    def write(self, data: Any) -> int:
        """Write all of the data, and wait for a reader that is slow."""
        left = memoryview(data).cast("B")
        # A buffer is flushed once more when it is closed, also after an error.
        while left and not self._has_failed:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                self._poll.poll()
            except OSError as error:
                self._fail(error)
        return len(data)

    def abandon(self) -> None:
        """Write nothing more of what is still in a buffer."""
        self._has_failed = True

    def sync(self) -> None:
        """Wait until the disk has it, if it is on a disk."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            # Pipes, terminals and other devices have no disk.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
                self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        self.abandon()
        raise OutputError(self._name, error) from None


class LogFile(_File):
    """Standard error, to which a write never fails: what cannot be written is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._patience_ms = _PATIENCE_MS
        self._is_line_cut = False

    def write(self, data: Any) -> int:
        """Write as much of the data as possible."""
        left = memoryview(b"\n" + data if self._is_line_cut else bytes(data))
        size = len(left)
        with contextlib.suppress(OSError):
            while left and self._poll.poll(self._patience_ms):
                # A pipe that is writable takes this much without blocking.
                left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
        # Wait only once for a log that is not being read.
        self._patience_ms = 0 if left else _PATIENCE_MS
        if len(left) < size:
            self._is_line_cut = bool(left)
        return len(data)


def replace_standard_streams() -> None:
    """Make standard output complete and standard error harmless."""
    # A descriptor that is closed would be given to the next file or socket that is opened. What
    # takes its place cannot be written to, so that a command notices that its output is closed.
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)
    sys.stdout = _text(OutputFile(1, "standard output"), sys.stdout)
    sys.stderr = _text(LogFile(2), sys.stderr, errors="backslashreplace", line_buffering=True)


def _text(file: _File, replaced: io.TextIOBase | Any, **options: Any) -> io.TextIOWrapper:
    encoding = "utf-8" if replaced is None else replaced.encoding
    return io.TextIOWrapper(io.BufferedWriter(file, 2**16), encoding, **options)
