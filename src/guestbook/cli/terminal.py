"""Messages and progress on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import unicodedata
from collections.abc import Callable, Iterator

from guestbook.core import Message

_INDENT = "    "
# Controls and formatting characters move the cursor, colour, or change the direction of writing.
# Surrogates cannot be encoded; separators end a line.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# They join letters and emoji, and do nothing else.
_JOINERS = "\u200c\u200d"


def escape_control(text: str) -> str:
    """Write characters that could control a terminal as escapes, such as `\\x1b`."""
    return _escape(text, lambda character: character.encode("unicode_escape").decode())


def is_utf8(argument: str) -> bool:
    """Return whether the bytes of an argument were UTF-8: others become half surrogate pairs."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(message: Message) -> str:
    """Return the message as JSON, with escapes for what could control a terminal."""
    text = json.dumps(json.loads(message.json()), ensure_ascii=False)
    return _escape(text, lambda character: json.dumps(character)[1:-1])


def _escape(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c in _JOINERS or unicodedata.category(c) not in _ESCAPED else escape(c) for c in text
    )


def format_message(message: Message) -> str:
    """Return a line with id, time, pod and author, then the lines of the text, indented."""
    author = "" if message.author is None else f"  {escape_control(message.author)}"
    head = f"{message.id}  {message.posted_at}  {escape_control(message.pod)}{author}"
    lines = message.text.expandtabs().split("\n")
    return "\n".join([head, *(_INDENT + escape_control(line) for line in lines)])


@contextlib.contextmanager
def progress_bar(
    description: str, total: int | None, *, is_shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error if that is a terminal; yield the function that advances it.

    A `total` of None means that the end is unknown. The function raises CancelledError in a task
    that is cancelled: before Python 3.12 `asyncio.wait_for`, with which redis-py sends, may swallow
    the cancellation, and the work would go on after Ctrl-C.
    """

    if not (is_shown and sys.stderr.isatty()):
        yield lambda _: _raise_if_cancelled()
        return
    # These take a while to import, and only a terminal needs them.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(description, total=total)

        def advance(steps: int) -> None:
            progress.advance(bar, steps)
            _raise_if_cancelled()

        yield advance


def _raise_if_cancelled() -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
