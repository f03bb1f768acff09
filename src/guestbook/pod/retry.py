"""Wait for Redis: repeat a command until it is taken, or the time is up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from guestbook.core import UnavailableError
from guestbook.storage import REDIS_ERRORS, DeadlineExceededError, TooFewReplicasError, explain

REQUEST_SECONDS = 3.0
"""How many seconds a request waits for Redis to come back."""
RETRY_PAUSE = 0.1
"""Seconds between two attempts."""

T = TypeVar("T")
logger = structlog.get_logger(__name__)


async def retry(attempt: Callable[[], Awaitable[T]], *, deadline: float) -> T:
    """Repeat `attempt`, which must be idempotent, until it succeeds.

    Raises UnavailableError at `deadline` (of `time.monotonic`).
    """
    last_error: Exception = TimeoutError()
    unavailable = UnavailableError()
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            # Check the clock too: before Python 3.12, `asyncio.wait_for`, which redis-py uses, may
            # swallow the cancellation.
            while time.monotonic() < deadline:
                try:
                    return await attempt()
                except (*REDIS_ERRORS, DeadlineExceededError, TooFewReplicasError) as error:
                    last_error = error
                    if isinstance(error, TooFewReplicasError):
                        unavailable = UnavailableError(f"{error}: try again.")
                await asyncio.sleep(RETRY_PAUSE)
    except TimeoutError:
        pass
    logger.warning("Redis did not take a command", error=explain(last_error))
    raise unavailable from last_error


async def within_request(answer: Awaitable[T]) -> T:
    """Await an answer of Redis as long as a request waits. Raises UnavailableError."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await answer
    except REDIS_ERRORS as error:
        raise UnavailableError from error
