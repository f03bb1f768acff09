"""Files, the standard streams, and the line on standard error with which a command ends."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import typer

from guestbook.cli.stdio import BUFFER, OutputFile


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


def open_input(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a file for reading ("-": standard input), or fail with its name."""
    if str(path) == "-":
        return contextlib.nullcontext(standard_input())
    try:
        return path.open("rb")
    except OSError as error:
        fail(f"{path}: {error.strerror}")


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing ("-": standard output). Raises OutputError if a byte is lost.

    A regular file gets its name only when it is complete.
    """
    if str(path) == "-":
        with _flushed(OutputFile(1, "standard output")) as buffer:
            yield buffer
        return
    # A device or a pipe cannot be renamed; a folder is refused.
    is_regular = path.is_file() or not path.exists()
    target = path.with_name(f"{path.name}.partial") if is_regular else path
    # Opening creates the file, and a signal may come at any time.
    try:
        with (
            target.open("wb", buffering=0) as file,
            _flushed(OutputFile(file.fileno(), str(target))) as buffer,
        ):
            yield buffer
        if is_regular:
            target.replace(path)
    except OSError as error:
        fail(f"{target}: {error.strerror}")
    finally:
        if is_regular:
            target.unlink(missing_ok=True)


@contextlib.contextmanager
def _flushed(file: OutputFile) -> Iterator[BinaryIO]:
    buffer = io.BufferedWriter(file, BUFFER)
    try:
        yield cast(BinaryIO, buffer)
        buffer.flush()
        file.sync()
    finally:
        file.is_abandoned = True
