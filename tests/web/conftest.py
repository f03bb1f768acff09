"""Fixtures: two pods with an administrator, for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import Serve, two_pods
from tests.support.messages import TOKEN
from tests.support.servers import Server


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve) -> list[Server]:
    """Two pods on one Redis; a module may override it."""
    return await two_pods(serve_shared, GUESTBOOK_ADMIN_TOKEN=TOKEN)


@pytest.fixture(scope="module")
async def pod(pods: list[Server]) -> Server:
    """The first pod, whose client is `api`; a module may override it."""
    return pods[0]


@pytest.fixture(scope="module")
async def other(pods: list[Server]) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the second pod."""
    async with pods[1].client() as client:
        yield client
