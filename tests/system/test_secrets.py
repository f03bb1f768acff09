"""Passwords and tokens stay where they are, above all where something goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, guestbook
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import eventually

PASSWORD = "Pa55:w0rd/of@ada"
QUOTED = "Pa55%3Aw0rd%2Fof%40ada"
SENTINEL = "s3nt1nel-word"
TOKEN = "t0ken-of-the-admin"
SECRETS = (PASSWORD, QUOTED, "Pa55", "w0rd", SENTINEL, TOKEN)

# A database that no other test is given, with a key of another kind in it.
_OTHER = 9999
# Wrong addresses and rights, each with secrets in it.
URLS = {
    "a wrong password": "redis://default:{password}@{guarded}",
    "a user without rights": "redis://ada:{password}@{guarded}",
    "a key of another kind": "redis://default:{password}@{open}/{other}",
    "no TLS": "rediss://default:{password}@{open}",
    "no Sentinel": "redis+sentinel://default:{password}@{open}/main?sentinel_password={sentinel}",
    "no Cluster": "redis+cluster://default:{password}@{open}",
}
UNREADABLE = [
    "redis://ada:{raw}@redis",
    "redis+sentinel://ada:{password}@redis?sentinel_password={sentinel}",
    "redis://ada@redis?password={password}&other={sentinel}",
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey that asks for a password; ada has one, and may do nothing."""
    valkey = Valkey(
        tmp_path_factory.mktemp("guarded"),
        *("--requirepass", "another", "--user", "ada", "on", f">{PASSWORD}", "+ping"),
    ).start()
    yield valkey
    valkey.kill()


def _assert_silent(where: str, said: str) -> None:
    for secret in SECRETS:
        assert secret not in said, where


async def _look(folder: Path, name: str, url: str, form: str) -> None:
    env = {"GUESTBOOK_LOG_LEVEL": "debug", "GUESTBOOK_LOG_FORMAT": form}
    env |= {"GUESTBOOK_ADMIN_TOKEN": TOKEN, "GUESTBOOK_LEGACY_API": "true"}
    with Server(folder / f"{name}.log", url, **env) as server:
        await server.until("/healthz", 200)
        async with server.client() as client:

            async def has_tried() -> bool:
                said = (await client.get("/ready")).text
                return "Redis has not answered yet" not in said

            await eventually(has_tried)
            paths = ("/ready", "/", "/env", "/metrics", "/messages", "/messages/1-1", "/info")
            answers = [await client.get(path) for path in paths]
            answers.append(await client.post("/messages", json={"text": "x"}))
            for token in (TOKEN, f"{TOKEN}x", PASSWORD):
                headers = {"Authorization": f"Bearer {token}"}
                answers.append(await client.delete("/messages/1-1", headers=headers))
        for answer in answers:
            _assert_silent(f"{name}: {answer.url}", repr(answer.headers) + answer.text)
        assert answers[0].status_code == 503, name
        assert answers[-1].status_code == 401, name
    _assert_silent(name, server.lines())
    assert "Traceback" not in server.lines()


def _written(template: str, guarded: Valkey, shared: Valkey) -> str:
    return template.format(
        password=QUOTED,
        raw=PASSWORD,
        sentinel=SENTINEL,
        guarded=guarded.address,
        open=shared.address,
        other=_OTHER,
    )


@pytest.mark.slow
async def test_server_in_trouble_tells_no_secret(
    tmp_path: Path, guarded: Valkey, shared_valkey: Valkey
) -> None:
    """Whatever keeps Redis away: no answer and no line of the log has a password or the token."""
    async with redis_client(f"redis://{shared_valkey.address}/{_OTHER}") as redis:
        await redis.set("{guestbook}:events", "not a stream")
    slots = asyncio.Semaphore(3)

    async def look(number: int, name: str) -> None:
        async with slots:
            url = _written(URLS[name], guarded, shared_valkey)
            await _look(tmp_path, name, url, ("json", "text")[number % 2])

    await asyncio.gather(*(look(number, name) for number, name in enumerate(URLS)))


async def _run(command: str, url: str) -> str:
    done = await asyncio.to_thread(
        guestbook, *command.split(), redis=url, GUESTBOOK_ADMIN_TOKEN=TOKEN
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode != 0, (command, said)
    return said


@pytest.mark.slow
async def test_command_in_trouble_tells_no_secret(guarded: Valkey, shared_valkey: Valkey) -> None:
    """Each command, with a Redis that refuses it or an address that cannot be read."""
    slots = asyncio.Semaphore(3)

    async def run(command: str, template: str) -> None:
        async with slots:
            said = await _run(command, _written(template, guarded, shared_valkey))
        assert "Traceback" not in said, (command, template)
        assert said.strip(), (command, template)
        _assert_silent(f"{command} {template}", said)

    runs = [run("check", URLS[name]) for name in ("a user without rights", "no Sentinel")]
    runs += [run(command, URLS["a wrong password"]) for command in ("export", "check")]
    runs += [run("serve", template) for template in UNREADABLE]
    await asyncio.gather(*runs)
