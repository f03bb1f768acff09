"""Wait for conditions, and run scenarios side by side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

K = TypeVar("K")

PATIENCE = 60.0
"""Seconds after which a test fails: far more than any step takes, also on a busy machine."""


def allowed(seconds: float) -> float:
    """Return how long something may take now that must take at most `seconds` on an idle machine.

    It is that much longer as more processes want to run than there are processors, and three times
    as long in any case: the load is known late, and not that of other guests of the same host.
    """
    return 3 * seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]],
    *,
    within: float = PATIENCE,
    every: float = 0.02,
) -> float:
    """Wait until a condition holds, and return how long that took; fail after `within` s.

    On a busy machine it may take longer.
    """
    started = time.monotonic()
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        took = time.monotonic() - started
        if value:
            return took
        assert took < allowed(within), f"not so within {within} s"
        await asyncio.sleep(every)


async def eventually_equal(read: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait until what is read is as expected; show the difference if that never happens."""
    found: object = None

    async def is_equal() -> bool:
        nonlocal found
        found = await read()
        return found == expected

    try:
        await eventually(is_equal)
    except AssertionError:
        assert found == expected
        raise


@contextlib.asynccontextmanager
async def run_scenarios(
    scenarios: Mapping[K, Coroutine[Any, Any, None]], begin: asyncio.Barrier | None = None
) -> AsyncIterator[dict[K, asyncio.Task[None]]]:
    """Run scenarios as tasks, which tests await.

    `begin` is where they wait for each other; one that fails earlier does not block the others.
    """

    async def run(scenario: Coroutine[Any, Any, None]) -> None:
        try:
            await scenario
        except BaseException:
            if begin is not None:
                await begin.abort()
            raise

    tasks = {name: asyncio.create_task(run(scenario)) for name, scenario in scenarios.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


Scenario = Callable[[Path, asyncio.Barrier], Coroutine[Any, Any, None]]


Scenarios = dict[Scenario, asyncio.Task[None]]


@contextlib.asynccontextmanager
async def run_together(
    scenarios: Sequence[Scenario], make_folder: Callable[[str], Path]
) -> AsyncIterator[Scenarios]:
    """Run scenarios, each with a folder; they wait for each other at `begin`."""
    begin = asyncio.Barrier(len(scenarios))
    running = {each: each(make_folder("scenario"), begin) for each in scenarios}
    async with run_scenarios(running, begin) as tasks:
        yield tasks
