"""The clients in docs/api.md work as they are printed there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN, post_all
from tests.support.servers import Server
from tests.support.waiting import eventually

_API = Path(__file__).parents[2] / "docs" / "api.md"
_COMMANDS = {
    "python": ("follow.py", [sys.executable]),
    "js": ("follow.mjs", ["node"]),
    "sh": ("follow.sh", ["sh"]),
}


async def _post(server: Server, *texts: str) -> list[str]:
    async with server.client() as http:
        return await post_all(http, *texts)


async def _post_and_edit(server: Server) -> str:
    key = {"Idempotency-Key": "of-the-clients"}
    async with server.client() as http:
        posted = await http.post("/messages", json={"text": "teh"}, headers=key)
        path = posted.headers["location"]
        edited = await http.patch(path, json={"text": "the new words"}, headers=key)
        assert edited.status_code == 200
    name: str = edited.json()["id"]
    return name


async def _restart(server: Server, number: signal.Signals) -> None:
    server.signal(number)
    await server.ended()
    await server.start().ready()


@pytest.mark.slow
@pytest.mark.parametrize("language", _COMMANDS)
async def test_client_survives_restarts(language: str, serve: Serve, tmp_path: Path) -> None:
    """It prints the list and every later entry once and in order, whatever ends the server.

    The list has a cursor of its own: a deletion before it is no news.
    """
    name, command = _COMMANDS[language]
    needed = {"js": ["node"], "sh": ["curl", "jq"]}.get(language, [])
    if missing := [tool for tool in needed if shutil.which(tool) is None]:
        pytest.skip(f"not on this machine: {missing}")
    _, printed = _API.read_text().split("\n## Three clients\n")
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", printed, re.MULTILINE | re.DOTALL)
    (tmp_path / name).write_text(code)
    server = await serve(GUESTBOOK_ADMIN_TOKEN=TOKEN)
    *first, gone = await _post(server, "in the list 1", "in the list 2", "gone before")
    async with server.client() as http:
        assert (await http.delete(f"/messages/{gone}", headers=ADMIN)).status_code == 204
    log = tmp_path / "printed"
    with log.open("w") as output:
        client = subprocess.Popen(
            [*command, name],
            cwd=tmp_path,
            env={**os.environ, "URL": server.url},
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def until(*wanted: str) -> None:
        await eventually(lambda: tuple(re.findall(r"\d{9,}-\d+", log.read_text())) == wanted)

    try:
        await until(*first)
        before = await _post(server, r"live \n", "deleted soon")
        await until(*first, *before)
        edited = await _post_and_edit(server)
        before += [edited] * 2
        await until(*first, *before)
        async with server.client() as http:
            assert (await http.delete(f"/messages/{before[1]}", headers=ADMIN)).status_code == 204
        wanted = [*first, *before, before[1]]
        await until(*wanted)
        for number in (signal.SIGTERM, signal.SIGKILL):
            await _restart(server, number)
            wanted += await _post(server, f"after {number.name} 1", f"after {number.name} 2")
            await until(*wanted)
    finally:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
    assert log.read_text().count("deleted ") == 1 + log.read_text().count("deleted soon")
    assert log.read_text().count("the new words") == 1
