"""What a command reads and writes: files, the standard streams, and its line on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

import typer


def report(line: str) -> None:
    """Write a line for the operator to standard error."""
    typer.echo(f"guestbook: {line}", err=True)


def fail(reason: str) -> NoReturn:
    """End the command with status 2 and one line on standard error."""
    report(reason)
    raise typer.Exit(2)


def count_of_messages(count: int) -> str:
    """Return the number with its noun."""
    return f"{count} message" if count == 1 else f"{count} messages"


def standard_input() -> BinaryIO:
    """Return standard input, as bytes."""
    if sys.stdin is None:
        fail("standard input is closed")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Return standard output, as bytes."""
    if sys.stdout is None:
        fail("standard output is closed")
    return sys.stdout.buffer


def open_file(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a file, or fail with its name."""
    try:
        return path.open(mode)
    except OSError as error:
        fail(f"{path}: {error.strerror}")


@contextlib.contextmanager
def complete_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only when it is complete."""
    if path.exists() and not path.is_file():
        # A device or a pipe cannot be renamed; a folder is refused.
        with open_file(path, "wb") as file:
            yield file
        return
    partial = path.with_name(f"{path.name}.partial")
    # The file may be there as soon as it is being opened, and a signal may come any time.
    try:
        with open_file(partial, "wb") as file:
            yield file
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        fail(f"{partial}: {error.strerror}")
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write(file: BinaryIO, piece: bytes) -> None:
    """Write a piece, or flush after an empty one. Fail with the file's name."""
    try:
        file.write(piece)
        if not piece:
            file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{file.name}: {error.strerror}")
