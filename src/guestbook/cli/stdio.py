"""Standard output that writes everything or fails, and standard error that never fails.

Python's own standard output ignores partial writes without a buffer (PYTHONUNBUFFERED), and with
one it reports errors only when the command has ended.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, NoReturn

from guestbook.telemetry.log_file import open_log

BUFFER = 64 * 1024


class OutputError(Exception):
    """The output of a command cannot be written; the text names the file."""

    def __init__(self, name: str, error: OSError) -> None:
        is_closed = error.errno == errno.EBADF
        super().__init__(f"{name}: {'it is closed' if is_closed else error.strerror}")
        self.is_broken_pipe = isinstance(error, BrokenPipeError)


class OutputFile(io.FileIO):
    """A file that is written completely, or raises OutputError once."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._name = name
        self.is_abandoned = False
        """Whether to ignore what is still in a buffer."""

    def write(self, data: Any) -> int:
        """Write all of the data, and wait for a reader that is slow."""
        left = memoryview(data).cast("B")
        # A buffer is flushed once more when it is closed, also after an error.
        while left and not self.is_abandoned:
            try:
                left = left[os.write(self.fileno(), left) :]
            except BlockingIOError:
                select.select([], [self], [])
            except OSError as error:
                self._fail(error)
        return len(data)

    def sync(self) -> None:
        """Wait until the disk has it, if it is on a disk."""
        try:
            os.fsync(self.fileno())
        except OSError as error:
            # Pipes, terminals and other devices have no disk.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
                self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        self.is_abandoned = True
        raise OutputError(self._name, error) from None


def replace_standard_streams() -> None:
    """Replace standard output by one that fails visibly, standard error by one that never fails."""
    # The next opened file or socket would get the number of a closed descriptor. The replacement
    # cannot be written to, so that a command notices that its output is closed.
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    buffer = io.BufferedWriter(OutputFile(1, "standard output"), BUFFER)
    sys.stdout = io.TextIOWrapper(buffer, encoding)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open_log()
