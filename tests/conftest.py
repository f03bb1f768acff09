"""Fixtures: every test runs against a real Valkey and real server processes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest

from tests.support import leaks
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import PATIENCE, Scenarios, run_together

# Under nohup it is ignored, and every process that a test starts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# As by Ctrl-C: what the tests have started is ended with them.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# On a busy machine an example may take long, without a fault of the program.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

# It is not installed, and httpx would look for it on the disk at each request.
sys.modules["sniffio"] = None  # type: ignore[assignment]

Serve = Callable[..., Awaitable[Server]]

# A file is the work of one process: the longest come first, so that none is left for the end.
_LONG = (
    "broadcast/test_events.py",
    "chaos/test_faults.py",
    "cli/test_embedded.py",
    "cli/test_output.py",
    "cli/test_transfer.py",
    "pod/test_presence.py",
    "system/test_redis_away.py",
    "web/test_posting.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(map(item.path.match, _LONG)))


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """Clients wait long, and do not read all certificates of the machine: no test needs them."""
    with pytest.MonkeyPatch.context() as patch:
        start = functools.partialmethod(httpx.AsyncClient.__init__, verify=False, timeout=PATIENCE)
        patch.setattr(httpx.AsyncClient, "__init__", start)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No log of a server and no answer contains a password or a token."""
    send = httpx.AsyncClient.send

    async def watched(
        self: httpx.AsyncClient, request: httpx.Request, **options: Any
    ) -> httpx.Response:
        answer = await send(self, request, **options)
        if answer.is_closed:
            leaks.watch.look(str(request.url), repr(answer.headers).encode() + answer.content)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.AsyncClient, "send", watched)
        yield
    assert leaks.watch.leaks() == []


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One Valkey for all tests that do not harm it; each of them uses a database of its own."""
    valkey = Valkey(tmp_path_factory.mktemp("valkey"), "--databases", "10000").start()
    yield valkey
    valkey.kill()


@pytest.fixture
def redis_url(shared_valkey: Valkey) -> str:
    """The address of a database for this test alone."""
    return shared_valkey.new_database()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of the test's own, to be killed, frozen and started again."""
    valkey = Valkey(tmp_path / "valkey").start()
    yield valkey
    valkey.kill()


@contextlib.asynccontextmanager
async def serving(folder: Path, redis_url: str) -> AsyncIterator[Serve]:
    """Yield a function that starts servers; stop them all at the end."""
    servers: list[Server] = []

    async def start(
        name: str = "pod-a", *, redis: str = redis_url, is_ready: bool = True, **env: str
    ) -> Server:
        server = Server(folder / f"{name}-{len(servers)}.log", redis, name, **env).start()
        servers.append(server)
        await server.until("/ready" if is_ready else "/healthz", 200)
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.stop()


async def two_pods(serve: Serve, **env: str) -> list[Server]:
    """Start two servers on one Redis, `pod-a` and `pod-b`."""
    return list(await asyncio.gather(serve("pod-a", **env), serve("pod-b", **env)))


@pytest.fixture
async def serve(tmp_path: Path, redis_url: str) -> AsyncIterator[Serve]:
    """Start a server that is ready: `await serve("pod-a", GUESTBOOK_TITLE="…")`."""
    async with serving(tmp_path, redis_url) as serve:
        yield serve


@pytest.fixture(scope="module")
async def serve_shared(
    tmp_path_factory: pytest.TempPathFactory, shared_valkey: Valkey
) -> AsyncIterator[Serve]:
    """As `serve`, for all tests of a module: its servers have one database."""
    async with serving(tmp_path_factory.mktemp("shared"), shared_valkey.new_database()) as serve:
        yield serve


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    """One server with the default settings for all tests of a module, which may override this."""
    return await serve_shared()


@pytest.fixture(scope="module")
async def api(pod: Server) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of `pod`."""
    async with pod.client() as client:
        yield client


@pytest.fixture
async def server(serve: Serve) -> Server:
    """One server with the default settings (but for the posting rate, which is off)."""
    return await serve()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of `server`."""
    async with server.client() as client:
        yield client


@pytest.fixture(scope="module")
async def scenarios(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scenarios]:
    """The `SCENARIOS` of the module, which run side by side, each with a folder of its own."""
    async with run_together(request.module.SCENARIOS, tmp_path_factory.mktemp) as tasks:
        yield tasks
