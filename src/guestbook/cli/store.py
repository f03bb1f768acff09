"""The connection of a command to the guestbook in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import typer

from guestbook.cli import embedded
from guestbook.cli.output import fail, report
from guestbook.settings import Settings, SettingsError, load
from guestbook.storage import (
    REDIS_ERRORS,
    Archive,
    RedisURL,
    create_client,
    explain,
)

T = TypeVar("T")

_TIMEOUT = 10.0
_HINT = (
    "; set REDIS_URL. For `make run` or `guestbook serve --embedded`, run the command in the "
    f"folder in which that runs; with --data DIR, set REDIS_URL=unix:///path/to/DIR/{embedded.SOCKET}"
)


def load_settings() -> Settings:
    """Return the settings, or fail with the name of the variable that is wrong."""
    try:
        return load()
    except SettingsError as error:
        fail(str(error))


def find_redis(settings: Settings) -> RedisURL:
    """Return where Redis is: without REDIS_URL, the embedded server in this folder if it runs."""
    if "redis_url" in settings.model_fields_set or not embedded.is_running():
        return settings.redis_url
    report(f"REDIS_URL is not set: using the guestbook in {embedded.DATA}")
    return RedisURL.parse(f"unix://{embedded.own_socket(embedded.DATA)}")


def run_with_store(work: Callable[[Archive], Coroutine[Any, Any, T]]) -> T:
    """Run work that needs the store; fail in one line if Redis does."""
    settings = load_settings()
    redis_url = find_redis(settings)

    async def connected() -> T:
        client = create_client(redis_url, timeout=_TIMEOUT)
        try:
            return await work(Archive(client, settings.retention))
        finally:
            await client.aclose()

    try:
        return asyncio.run(connected())
    except typer.Exit:  # also a RuntimeError: the work has said why
        raise
    except REDIS_ERRORS as error:
        hint = "" if "redis_url" in settings.model_fields_set else _HINT
        fail(f"REDIS_URL: Redis at {redis_url}: {explain(error).rstrip('.')}{hint}")
