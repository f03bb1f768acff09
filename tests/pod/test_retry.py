"""Commands are retried until Redis takes them or the time is up."""

from __future__ import annotations

import asyncio
import time

import pytest

from guestbook.pod import UnavailableError
from guestbook.pod.retry import retry
from guestbook.storage import DeadlineExceededError, TooFewReplicasError


class Attempts:
    """Raises these errors one after another, the last one for ever, or returns the number."""

    def __init__(self, *errors: Exception, succeeds: bool = True) -> None:
        self._errors = errors
        self._succeeds = succeeds
        self.count = 0

    async def __call__(self) -> int:
        self.count += 1
        if self.count > len(self._errors) and self._succeeds:
            return self.count
        raise self._errors[min(self.count, len(self._errors)) - 1]


async def test_attempt_is_repeated_until_it_succeeds() -> None:
    """After each error by which Redis shows that it did not take the command."""
    errors = (ConnectionError(), TimeoutError(), DeadlineExceededError(), TooFewReplicasError())
    assert await retry(Attempts(*errors), deadline=time.monotonic() + 10) == 5


async def test_error_at_the_deadline_has_the_reason_of_missing_replicas() -> None:
    """Also if a later attempt failed otherwise: the message may be stored already."""
    attempts = Attempts(TooFewReplicasError("1 of 2 replicas"), ConnectionError(), succeeds=False)
    with pytest.raises(UnavailableError, match=r"^1 of 2 replicas$"):
        await retry(attempts, deadline=time.monotonic() + 0.3)
    assert attempts.count > 1


async def test_attempt_that_hangs_is_cancelled_at_the_deadline() -> None:
    """The request is answered in time, however Redis fails."""
    with pytest.raises(UnavailableError, match=r"^$"):
        await retry(asyncio.Event().wait, deadline=time.monotonic() + 0.1)


async def test_other_errors_are_not_retried() -> None:
    """An error of the program, or a post over the rate, is none of Redis's availability."""
    attempts = Attempts(ValueError("bug"), succeeds=False)
    with pytest.raises(ValueError, match="bug"):
        await retry(attempts, deadline=time.monotonic() + 10)
    assert attempts.count == 1
