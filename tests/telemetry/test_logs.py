"""A log that cannot be written costs log lines and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

_SERVE = ("guestbook", "serve")


@contextlib.contextmanager
def serving(
    redis: str, stderr: Any, folder: Path, *program: str, shell: str = 'exec "$@"', **env: str
) -> Iterator[Server]:
    """Run a server whose standard error is not a usual file."""
    server = Server(folder / "output", redis, **env)
    with server.log.open("wb") as log:
        server.process = subprocess.Popen(
            ["/bin/sh", "-c", shell, "sh", sys.executable, "-m", *(program or _SERVE)],
            env=server.env,
            stdout=log,
            stderr=stderr,
        )
    try:
        yield server
    finally:
        server.stop()


async def survives_redis_restart(server: Server, valkey: Valkey) -> None:
    """After an outage of Redis, which is logged, posts are shown and the process is well."""
    valkey.kill()
    await server.until("/ready", 503)
    valkey.start()
    await server.ready()
    async with server.client() as http:
        posted = (await http.post("/messages", json={"text": "after"})).json()
        assert posted in (await http.get("/messages")).json()["messages"]
        assert (await http.get("/healthz")).status_code == 200


async def ends_well(server: Server) -> None:
    """The exit status is that of the signal, and nothing is on standard output."""
    server.signal(signal.SIGTERM)
    assert await server.ended() == -signal.SIGTERM
    assert server.lines() == ""


async def test_full_disk_below_the_log_does_not_stop_the_server(
    valkey: Valkey, tmp_path: Path
) -> None:
    """If every write to the log fails, the server survives an outage of Redis all the same."""
    with open("/dev/full", "wb") as full, serving(valkey.address, full, tmp_path) as server:
        await server.ready()
        await survives_redis_restart(server, valkey)
        await ends_well(server)


async def test_full_disk_does_not_stop_the_application_in_another_server(
    valkey: Valkey, tmp_path: Path
) -> None:
    """Under `uvicorn guestbook.asgi:app` the log is as harmless."""
    with open("/dev/full", "wb") as full:
        uvicorn = ("uvicorn", "guestbook.asgi:app", "--port")
        port = str(free_port())
        with serving(valkey.address, full, tmp_path, *uvicorn, port) as server:
            server.url = f"http://127.0.0.1:{port}"
            await server.ready()
            await survives_redis_restart(server, valkey)


async def test_reader_of_the_log_may_leave(valkey: Valkey, tmp_path: Path) -> None:
    """`guestbook serve 2> >(head -1)`: the lines after the first go nowhere."""
    reading, writing = os.pipe()
    with serving(valkey.address, writing, tmp_path) as server:
        os.close(writing)
        await server.ready()
        os.close(reading)
        await survives_redis_restart(server, valkey)
        await ends_well(server)


@pytest.mark.parametrize("shell", ['exec "$@" 2>&-', 'exec "$@" <&- 2>&-'])
async def test_server_starts_without_standard_error(
    valkey: Valkey, tmp_path: Path, shell: str
) -> None:
    """`guestbook serve 2>&-` serves, and no other file takes the place of the closed one."""
    with serving(valkey.address, None, tmp_path, shell=shell) as server:
        await server.ready()
        assert Path(f"/proc/{server.pid}/fd/2").readlink() == Path("/dev/null")
        await survives_redis_restart(server, valkey)
        await ends_well(server)


async def test_reader_of_the_log_that_sleeps_holds_up_nothing(
    shared_valkey: Valkey, tmp_path: Path
) -> None:
    """A pipe that is full costs lines; when it is read again, whole lines come again."""
    reading, writing = os.pipe()
    with serving(shared_valkey.address, writing, tmp_path) as server:
        os.close(writing)
        await server.ready()
        async with server.client() as http:
            for number in range(500):
                await http.get(f"/{number}{'x' * 500}")
            with open(reading, "rb") as log:
                lost: set[str] = set()

                async def read_until(path: str) -> None:
                    while (line := await asyncio.to_thread(log.readline)) and path.encode():
                        lost.discard(json.loads(line).get("path", ""))
                        if json.loads(line).get("path") == path:
                            return

                lost = {f"/{number}{'x' * 500}" for number in range(500)}
                reader = asyncio.create_task(read_until("/again"))
                while not reader.done():
                    await http.get("/again")
                    await asyncio.sleep(0.05)
                assert 0 < len(lost) < 500
                server.stop()


async def test_log_comes_back_when_there_is_room(shared_valkey: Valkey, tmp_path: Path) -> None:
    """A disk that was full and has room again gets whole lines again."""
    log = tmp_path / "log"
    with log.open("ab") as file, serving(shared_valkey.address, file, tmp_path) as server:
        await server.ready()
        async with server.client() as http:
            # No room for a whole line more, as on a disk that is nearly full.
            limit = log.stat().st_size + 100
            infinite = resource.RLIM_INFINITY
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, infinite))
            for _ in range(3):
                await http.get("/lost")
            await eventually(lambda: log.stat().st_size == limit)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (infinite, infinite))
            await http.get("/kept")
            await eventually(lambda: "/kept" in log.read_text())
    lines = log.read_text().splitlines()
    cut = [line for line in lines if not line.endswith("}")]
    assert len(cut) == 1
    assert json.loads(lines[lines.index(cut[0]) + 1])["path"] == "/kept"
