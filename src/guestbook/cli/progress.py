"""A bar for work that takes a while."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

_PATIENCE = 1.0


class Progress:
    """A bar on standard error, where that is a terminal, for what takes longer than a second.

    `total` says when it is full (None: nobody knows).
    """

    def __init__(self, what: str, total: int | None, *, is_shown: bool = True) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._until = time.monotonic() + _PATIENCE
        self._is_shown = is_shown and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int) -> None:
        """So much more is done."""
        self._done += steps
        if self._is_shown and self._bar is None and time.monotonic() > self._until:
            self._bar = _bar()
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)


def _bar() -> Any:
    # It takes a while to import, which work that is soon done can do without.
    from rich import console, progress  # noqa: PLC0415

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )
