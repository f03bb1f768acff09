"""The reason with which a command is given up. (That it is retried: system/test_redis_away.py.)"""

from __future__ import annotations

import itertools
import time

import pytest

from guestbook.core import UnavailableError
from guestbook.pod.retry import retry
from guestbook.storage import TooFewReplicasError


async def test_error_at_the_deadline_has_the_reason_of_missing_replicas() -> None:
    """Also if a later attempt failed otherwise: the message may be stored already."""
    errors = itertools.chain([TooFewReplicasError("1 of 2 replicas")], itertools.repeat(OSError()))

    async def attempt() -> None:
        raise next(errors)

    with pytest.raises(UnavailableError, match=r"^1 of 2 replicas: try"):
        await retry(attempt, deadline=time.monotonic() + 0.3)
    assert isinstance(next(errors), OSError)


async def test_other_errors_are_not_retried() -> None:
    """An error of the program, or a post over the rate, is none of Redis's availability."""
    errors = iter([ValueError("bug")])

    async def attempt() -> None:
        raise next(errors)

    with pytest.raises(ValueError, match="bug"):
        await retry(attempt, deadline=time.monotonic() + 10)
