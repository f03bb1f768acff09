"""The connection of a command to the guestbook in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from guestbook import settings
from guestbook.cli.output import fail
from guestbook.settings import Settings
from guestbook.storage import REDIS_ERRORS, Archive, create_client, explain

T = TypeVar("T")

_TIMEOUT = 10.0


def load_settings() -> Settings:
    """Return the settings, or fail with the name of the variable that is wrong."""
    try:
        return settings.load()
    except settings.SettingsError as error:
        fail(str(error))


def run_with_store(work: Callable[[Archive], Coroutine[Any, Any, T]]) -> T:
    """Run work that needs the store; fail in one line if Redis does."""
    chosen = load_settings()

    async def connected() -> T:
        store = Archive(create_client(chosen.redis_url, timeout=_TIMEOUT), chosen.retention)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(connected())
    except REDIS_ERRORS as error:
        fail(f"REDIS_URL: Redis at {chosen.redis_url}: {explain(error)}")
