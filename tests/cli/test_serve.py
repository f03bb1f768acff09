"""The start of `guestbook serve`, its log, and where it listens."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from guestbook import settings
from guestbook.server import listen
from tests.conftest import Serve
from tests.support.messages import post
from tests.support.ports import free_port
from tests.support.raw import connect
from tests.support.servers import Server, guestbook
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

_NOWHERE = "127.0.0.1:1"


# The start


def test_help_names_everything() -> None:
    """`--help` names the commands, and `serve --help` every variable with its default."""
    assert b"serve" in guestbook("--help", redis="").stdout
    said = guestbook("serve", "--help", redis="", COLUMNS="80").stdout.decode()
    for variable in settings.variables():
        assert variable.name in said
        assert variable.default in said
    for option in ("--embedded", "--data"):
        assert option in said


async def test_first_line_names_page_and_data(serve: Serve, shared_valkey: Valkey) -> None:
    """One line names the address of the page and of Redis, without the password."""
    redis = shared_valkey.new_database(":secret@")
    server = await serve(redis=redis, is_ready=False)
    up = [record for record in server.records() if "is up" in record["event"]]
    assert len(up) == 1
    assert up[0]["page"] == server.url
    assert up[0]["redis"].startswith(shared_valkey.address)
    assert "secret" not in server.lines()


async def test_file_limit_is_raised(tmp_path: Path) -> None:
    """Every stream is an open file: the soft limit becomes the hard one."""
    under = ("/bin/sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh")
    with Server(tmp_path / "log", _NOWHERE).start(under=under) as server:
        await server.until("/healthz", 200)
        limits = Path(f"/proc/{server.pid}/limits").read_text().splitlines()
        ((soft, hard),) = (
            line.split()[3:5] for line in limits if line.startswith("Max open files")
        )
        assert soft == hard != "256"


# The log


async def _misbehave(server: Server) -> None:
    """Send requests that no browser sends, with parts that look like a line of the log."""
    forged = '{"event": "forged", "level": "info"}'
    escaped = forged.replace(" ", "%20").replace('"', "%22")
    requests = [
        f"GET /x%0A{escaped}%0A HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /x%0D%0A{escaped}%1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%00%ff%e2%80%a8forged HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /?q=%0A{escaped} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /x\n{forged} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x\x1b[31mforged\x1b[0m HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\u2028forged HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /events?after=%0A{escaped} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[31m{forged}\r\n{forged}: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {forged}\x0b\x85\u2029\r\n\r\n",
        f"{forged}\r\n\r\n",
        "FORGED\x1b[31m / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        f"POST /messages HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {forged}\x1b\r\n"
        "Content-Type: application/json\r\nContent-Length: 12\r\n\r\n" + '{"text":"x"}',
    ]
    for request in requests:
        async with asyncio.timeout(60), connect(server.port) as (reader, writer):
            writer.write(request.encode("utf-8"))
            await reader.readline()


async def test_log_lines_are_json_and_cannot_be_forged(serve: Serve) -> None:
    """Every line is a JSON object of the server's own, whatever a request contains; so is text."""
    env = {"GUESTBOOK_LOG_LEVEL": "debug", "GUESTBOOK_DRAIN_SECONDS": "0"}
    as_json = await serve("pod-a", **env)
    as_text = await serve("pod-b", GUESTBOOK_LOG_FORMAT="text", **env)
    for server in (as_json, as_text):
        await _misbehave(server)
        async with server.client() as http:
            await post(http, 'x\n{"event": "forged"}\x1b[31m')
        server.signal(signal.SIGTERM)
        await server.ended()
        assert "\x1b" not in server.lines()
        assert "Traceback" not in server.lines()
    records = as_json.records()
    assert len(records) > 10
    for record in records:
        assert list(record)[:3] == ["timestamp", "level", "event"]
        assert record["event"] != "forged"
    # As many lines as line ends of any kind: a request adds none.
    for server in (as_json, as_text):
        assert len(server.lines().splitlines()) == server.lines().count("\n")
    for line in as_text.lines().splitlines():
        assert line[:4].isdigit()
        assert not line.startswith("{")
    assert any("is up" in line for line in as_text.lines().splitlines())


async def test_log_level_is_respected(serve: Serve) -> None:
    """With `warning` a healthy server logs nothing."""
    server = await serve(GUESTBOOK_LOG_LEVEL="warning", GUESTBOOK_DRAIN_SECONDS="0")
    async with server.client() as http:
        await post(http, "quiet")
    server.signal(signal.SIGTERM)
    await server.ended()
    assert server.lines() == ""


# The address to listen on


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


_needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


async def _answers(server: Server, *hosts: str) -> None:
    """Fail unless the server answers at each of these addresses, in their own form."""
    async with httpx.AsyncClient(timeout=60, verify=False) as http:
        for host in hosts:
            answer = await http.get(f"http://{host}:{server.port}/env")
            assert answer.status_code == 200

    def seen() -> list[str]:
        return [record["address"] for record in server.records() if record.get("path") == "/env"]

    await eventually(lambda: len(seen()) == len(hosts))
    assert seen() == [host.strip("[]") for host in hosts]


@_needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
async def test_both_families_are_listened_to(serve: Serve, host: str) -> None:
    """Without HOST, and with `::`, IPv4 and IPv6 work, and IPv4 addresses look as usual."""
    server = await serve(HOST=host, GUESTBOOK_LOG_FORMAT="json")
    await _answers(server, "127.0.0.1", "[::1]")
    assert server.records()[0]["page"] == f"http://localhost:{server.port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_ipv4_alone_where_it_is_asked_for(serve: Serve, host: str) -> None:
    """With an address of IPv4 in HOST nothing listens on IPv6."""
    server = await serve(HOST=host, GUESTBOOK_LOG_FORMAT="json")
    await _answers(server, "127.0.0.1")
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection("::1", server.port)


@pytest.mark.parametrize("missing", [socket.AF_INET6, socket.AF_INET])
def test_missing_family_is_no_error(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    """On a machine without IPv6 (or IPv4) `::` listens on the other."""
    create = socket.socket

    def socket_of(family: int, kind: int) -> socket.socket:
        if family == missing:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(family, kind)

    monkeypatch.setattr(socket, "socket", socket_of)
    (listener,) = listen("::", 0)
    with listener:
        assert listener.family != missing


async def test_ipv4_address_written_as_ipv6_is_shown_as_ipv4(server: Server) -> None:
    """A proxy may write 192.0.2.1 as ::ffff:192.0.2.1, which is the same client."""
    async with server.client() as http:
        await http.get("/env", headers={"X-Forwarded-For": "::ffff:192.0.2.1"})
    await server.logged('"path": "/env"')
    assert server.records()[-1]["address"] == "192.0.2.1"


def _health_checks() -> list[str]:
    """Return the programs of the health checks of the image and of compose.yaml."""
    root = Path(__file__).parents[2]
    dockerfile = (root / "Dockerfile").read_text()
    (command,) = re.findall(r"HEALTHCHECK .*?CMD (\[.*?\])\n", dockerfile, re.DOTALL)
    compose = yaml.safe_load((root / "compose.yaml").read_text())["services"]
    return [
        json.loads(command.replace("\\\n", ""))[-1],
        compose["guestbook"]["healthcheck"]["test"][-1],
    ]


async def _answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", pytest.param("::1", marks=_needs_ipv6), "127.0.0.2", "localhost"]
)
async def test_health_checks_ask_where_the_server_listens(host: str) -> None:
    """The image's health check and that of compose.yaml follow HOST and PORT."""
    port = free_port()
    listeners = listen(host or "::", port)
    servers = [await asyncio.start_server(_answer_ok, sock=each) for each in listeners]
    try:
        for check in _health_checks():
            # Another port is not the server's: enough to see once.
            ports = [(port, 0), *([(free_port(), 1)] if not host else [])]
            for asked, expected in ports:
                env = {"HOST": host, "PORT": str(asked)}
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-Ic", check, env=env, stderr=subprocess.DEVNULL
                )
                assert await process.wait() == expected
    finally:
        for each in servers:
            each.close()
            await each.wait_closed()
