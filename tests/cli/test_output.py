"""Everything that a command writes is written, or the command fails with status 2 and one line."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.messages import store
from tests.support.servers import command_env, start_command
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

_PROGRAM = (sys.executable, "-m", "guestbook")
# More than a pipe and a buffer hold.
_MESSAGES = 300

COMMANDS = [
    ("export", "-"),
    ("export", "--format", "csv"),
    ("export", "--format", "html"),
    ("export", "/dev/full"),
    ("list",),
    ("list", "--json", "--limit", "1000"),
    ("check",),
    ("--version",),
    ("serve", "--help"),
]


@pytest.fixture(scope="module")
async def redis_url(shared_valkey: Valkey) -> str:
    """A database with messages in it."""
    url = shared_valkey.new_database()
    await store(url, *(f"{number} {'x' * 400}" for number in range(_MESSAGES)))
    return url


def start(
    redis: str, *arguments: str, stdout: int, before: str = "true", **env: str
) -> subprocess.Popen[bytes]:
    """Start a command from a shell that does something before."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f'{before}; exec "$@"', "sh", *_PROGRAM, *arguments],
        env=command_env(redis, **env),
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def assert_failed(process: subprocess.Popen[bytes], reason: str) -> None:
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.decode()) == (2, f"guestbook: {reason}\n")


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        *((arguments, {}) for arguments in COMMANDS),
        *((arguments, {"PYTHONUNBUFFERED": "1"}) for arguments in COMMANDS[:1] + COMMANDS[-2:]),
    ],
)
def test_full_disk_fails_every_command(
    redis_url: str, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    """Standard output on a full disk: status 2 and the reason, whatever the command writes."""
    name = "/dev/full" if "/dev/full" in arguments else "standard output"
    with open("/dev/full", "wb") as full, tempfile.TemporaryFile() as stderr:
        process = start_command(
            arguments, command_env(redis_url, **env), stdout=full, stderr=stderr
        )
        assert process.wait(60) == 2
        stderr.seek(0)
        assert stderr.read().decode() == f"guestbook: {name}: No space left on device\n"


@pytest.mark.parametrize(("form", "unbuffered"), [("jsonl", "1"), ("csv", ""), ("html", "")])
def test_disk_that_becomes_full_fails_an_export(
    redis_url: str, tmp_path: Path, form: str, unbuffered: str
) -> None:
    """A write that is only partly done is noticed, and no half-written file is left."""
    # In blocks of 512 bytes.
    limit_size = "ulimit -f 137"
    options = ("--format", form)
    whole, piped = tmp_path / "whole", tmp_path / "piped"
    with piped.open("wb") as file:
        to_stdout = start(
            *(redis_url, "export", "-", *options),
            stdout=file.fileno(),
            before=limit_size,
            PYTHONUNBUFFERED=unbuffered,
        )
    assert_failed(to_stdout, "standard output: File too large")
    assert piped.stat().st_size == 137 * 512
    to_file = start(
        *(redis_url, "export", str(whole), *options),
        stdout=subprocess.DEVNULL,
        before=limit_size,
        PYTHONUNBUFFERED=unbuffered,
    )
    assert_failed(to_file, f"{whole}.partial: File too large")
    assert list(tmp_path.iterdir()) == [piped]


@pytest.mark.parametrize(
    ("command", "unbuffered"), [("export", "1"), ("export", ""), ("list --json --limit 1000", "")]
)
async def test_slow_reader_gets_everything(redis_url: str, command: str, unbuffered: str) -> None:
    """A command waits for a full pipe that does not block: no line is lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start(redis_url, *command.split(), stdout=writing, PYTHONUNBUFFERED=unbuffered)

    await eventually(lambda: not select.select([], [writing], [], 0)[1])
    os.close(writing)
    with open(reading, "rb") as file:
        lines = await asyncio.to_thread(file.readlines)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0, said
    texts = [json.loads(line) for line in lines]
    assert sum("text" in message for message in texts) == _MESSAGES


@pytest.mark.parametrize("command", ["export", "--version"])
def test_closed_output_fails_a_command(redis_url: str, command: str) -> None:
    """`guestbook export >&-` does not end with status 0."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *_PROGRAM, command],
        env=command_env(redis_url),
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == b"guestbook: standard output: it is closed\n"


def test_command_needs_no_standard_error(redis_url: str, tmp_path: Path) -> None:
    """A report may be lost, but the work is done and the exit status is right."""
    for redirection in ("2>&-", "2>/dev/full"):
        file = tmp_path / "messages.jsonl"
        for arguments, status in ((["export", str(file)], 0), (["delete", "99999-0"], 1)):
            done = subprocess.run(
                ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *_PROGRAM, *arguments],
                env=command_env(redis_url), check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == status
        assert file.read_bytes().count(b'"text"') == _MESSAGES
        file.unlink()


async def test_closed_terminal_ends_a_command_and_leaves_nothing(
    valkey: Valkey, tmp_path: Path
) -> None:
    """A terminal that goes away ends an export by SIGHUP; the .partial file goes too."""
    partial = tmp_path / "messages.csv.partial"
    valkey.freeze()
    pid, terminal = pty.fork()
    if pid == 0:
        command = [*_PROGRAM, "export", str(tmp_path / "messages.csv")]
        os.execve(sys.executable, command, command_env(valkey.address))
    await eventually(partial.exists)
    os.close(terminal)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGHUP
    assert list(tmp_path.glob("messages*")) == []


async def test_nohup_outlives_its_terminal(valkey: Valkey, tmp_path: Path) -> None:
    """A process that ignores SIGHUP from its start goes on ignoring it."""
    partial = tmp_path / "messages.csv.partial"
    valkey.freeze()
    process = start(
        *(valkey.address, "export", str(tmp_path / "messages.csv")),
        stdout=subprocess.DEVNULL,
        before="trap '' HUP",
    )
    await eventually(partial.exists)
    process.send_signal(signal.SIGHUP)
    valkey.thaw()
    await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
