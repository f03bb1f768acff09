"""From the first line of the log to the exit status: the start, the drain, the end."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from guestbook import settings
from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.sse import Event, EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually, run_scenarios

_NOWHERE = "127.0.0.1:1"
_STREAMS = 1000


def _records(server: Server) -> list[dict[str, Any]]:
    """The lines of a log, each of which must be JSON."""
    return [json.loads(line) for line in server.lines().splitlines()]


def _processes_of(folder: Path) -> list[int]:
    """The processes that have this folder among their arguments, guestbooks aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in arguments and b"guestbook\0serve" not in arguments:
            found.append(int(process.name))
    return found


async def _post(server: Server, text: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=10, verify=False) as http:
        answer = await http.post(f"{server.url}/messages", json={"text": text})
        assert answer.status_code == 201, answer.text
        message: dict[str, Any] = answer.json()
        return message


async def _texts(server: Server) -> list[str]:
    async with httpx.AsyncClient(timeout=10, verify=False) as http:
        listed = (await http.get(f"{server.url}/messages")).json()["messages"]
    return [message["text"] for message in listed[::-1]]


async def _open_many(server: Server, count: int) -> list[EventStream]:
    # Connections at once, no more than a listener's queue may hold.
    slots = asyncio.Semaphore(100)

    async def open_one() -> EventStream:
        async with slots:
            return await EventStream(server.url).__aenter__()

    return await asyncio.gather(*(open_one() for _ in range(count)))


# The start


async def _run(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Runs the program to its end; gives its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "guestbook", *arguments,
        env={**os.environ, "COLUMNS": "80", **env},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_help_names_everything() -> None:
    """`--help` names the command, and `serve --help` every variable with its default."""
    (status, out, _), (serve_status, serve_out, _) = await asyncio.gather(
        _run("--help"), _run("serve", "--help")
    )
    assert status == serve_status == 0
    assert "serve" in out
    for variable in settings.variables():
        assert variable.name in serve_out
        assert variable.default in serve_out
    for option in ("--embedded", "--data"):
        assert option in serve_out


async def test_port_in_use_is_one_clear_line() -> None:
    """A start that cannot listen ends with one line that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = await _run(
            "serve", HOST="127.0.0.1", PORT=port, REDIS_URL=_NOWHERE, GUESTBOOK_LOG_FORMAT="json"
        )
    assert status > 0
    lines = (out + err).splitlines()
    assert len(lines) == 1
    assert port in lines[0]
    assert "in use" in lines[0]


async def test_kubernetes_variables_do_not_disturb(serve: Serve) -> None:
    """Services called redis and guestbook put variables of these names into every pod."""
    server = await serve(
        redis=_NOWHERE,
        is_ready=False,
        REDIS_PORT="tcp://10.96.0.7:6379",
        REDIS_SERVICE_PORT="6379",
        GUESTBOOK_PORT="tcp://10.96.0.8:3000",
        GUESTBOOK_HOST="10.96.0.8",
        GUESTBOOK_SERVICE_HOST="10.96.0.8",
    )
    assert "error" not in {record["level"] for record in _records(server)}


async def test_first_line_says_where_everything_is(serve: Serve, shared_valkey: Valkey) -> None:
    """One line says where the page and the data are, without the password; the limit is raised."""
    redis = f"redis://:secret@{shared_valkey.address}/9021"
    server = await serve(redis=redis, is_ready=False)
    up = [record for record in _records(server) if "is up" in record["event"]]
    assert len(up) == 1
    assert up[0]["page"] == server.url
    assert up[0]["redis"].startswith(shared_valkey.address)
    assert "secret" not in server.lines()


async def test_file_limit_is_raised(tmp_path: Path) -> None:
    """Every stream is an open file: the soft limit becomes the hard one."""
    server = Server(tmp_path / "log", _NOWHERE)
    server.start(under=("/bin/sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh"))
    try:
        await server.until("/healthz", 200)
        limits = Path(f"/proc/{server.pid}/limits").read_text().splitlines()
        (soft, hard), *_ = (
            line.split()[3:5] for line in limits if line.startswith("Max open files")
        )
        assert soft == hard != "256"
    finally:
        server.stop()


# The log


async def _misbehave(server: Server) -> None:
    """Sends what others than browsers send, with what could be a line of the log in it."""
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
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request.encode("utf-8"))
        async with asyncio.timeout(5):
            await reader.readline()
        writer.transport.abort()


async def test_log_lines_are_json_and_cannot_be_forged(serve: Serve) -> None:
    """Every line is one JSON object of our own, whatever the requests say; nor is text forged."""
    as_json, as_text = await asyncio.gather(
        serve("pod-a", GUESTBOOK_LOG_LEVEL="debug", GUESTBOOK_DRAIN_SECONDS="0"),
        serve(
            "pod-b",
            GUESTBOOK_LOG_LEVEL="debug",
            GUESTBOOK_LOG_FORMAT="text",
            GUESTBOOK_DRAIN_SECONDS="0",
        ),
    )
    for server in (as_json, as_text):
        await _misbehave(server)
        await _post(server, 'x\n{"event": "forged"}\x1b[31m')
        server.signal(signal.SIGTERM)
        await server.ended()
        assert "\x1b" not in server.lines()
        assert "Traceback" not in server.lines()
    records = _records(as_json)
    assert len(records) > 10
    for record in records:
        assert list(record)[:3] == ["timestamp", "level", "event"]
        assert record["event"] != "forged"
    # As many lines as line ends of any kind: nobody else's line end stands in it.
    for server in (as_json, as_text):
        assert len(server.lines().splitlines()) == server.lines().count("\n")
    for line in as_text.lines().splitlines():
        assert line[:4].isdigit()
        assert not line.startswith("{")
    assert any("is up" in line for line in as_text.lines().splitlines())


async def test_log_level_is_heeded(serve: Serve) -> None:
    """With `warning` the log is silent while all is well."""
    server = await serve(GUESTBOOK_LOG_LEVEL="warning", GUESTBOOK_DRAIN_SECONDS="0")
    await _post(server, "quiet")
    server.signal(signal.SIGTERM)
    await server.ended()
    assert server.lines() == ""


# The embedded server. Its stories run side by side with the tests above.


def _embedded(folder: Path, data: Path, name: str) -> Server:
    # What is given as REDIS_URL must not matter.
    env = {"TMPDIR": str(folder), "GUESTBOOK_DRAIN_SECONDS": "0"}
    return Server(folder / f"{name}.log", _NOWHERE, name, **env).start(
        "--embedded", "--data", str(data)
    )


async def _is_gone(folder: Path) -> None:
    await eventually(lambda: not _processes_of(folder), within=5)


async def _lives_and_dies(folder: Path) -> None:
    data = folder / "data"
    started: list[Server] = []

    async def start(name: str) -> Server:
        started.append(_embedded(folder, data, name))
        return await started[-1].ready()

    try:
        first = await start("first")
        up = [record for record in _records(first) if "is up" in record["event"]]
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
        refused = _embedded(folder, data, "refused")
        started.append(refused)
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
        # Started again at once, while the old Valkey may still be about to end.
        fifth = await start("fifth")
        assert len(await _texts(fifth)) == 3
        assert "warning" not in {record["level"] for record in _records(fifth)}
    finally:
        for server in started:
            server.stop()
    await _is_gone(data)


async def _lives_far_down(folder: Path) -> None:
    data = folder.joinpath(*("a folder with a long name, and a space",) * 5)
    server = _embedded(folder, data, "far-down")
    try:
        await server.ready()
        assert await _post(server, "far down")
        server.signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        await _is_gone(data)
        # The socket lay elsewhere, since the path was too long for one: nothing of it is left.
        assert sorted(path.name for path in folder.iterdir()) == [
            data.parents[3].name,
            server.log.name,
        ]
        server.start("--embedded", "--data", str(data))
        await server.ready()
        assert await _texts(server) == ["far down"]
    finally:
        server.stop()
    await _is_gone(data)


async def _data_is_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    server = _embedded(folder, folder / "file", "refused")
    assert await server.ended() > 0
    (line,) = server.lines().splitlines()
    assert str(folder / "file") in line


async def _valkey_dies_at_once(folder: Path) -> None:
    manifest = folder / "data" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("this is no manifest\n")
    server = _embedded(folder, folder / "data", "refused")
    try:
        # Sooner than a Valkey is given up that does not answer.
        assert await server.ended(within=25) > 0
    finally:
        server.stop()
    (line,) = server.lines().splitlines()
    assert "Valkey ended as it started" in line
    assert "AOF" in line
    assert str(folder / "data" / "valkey.log") in line
    await _is_gone(folder / "data")


async def _valkey_dies_later(folder: Path) -> None:
    data = folder / "data"
    server = _embedded(folder, data, "mended")
    try:
        await server.ready()
        for text, victim in (("before the server", "valkey-server"), ("before the keeper", "sh")):
            await _post(server, text)
            lines = len(_records(server))
            processes = _processes_of(data)
            killed = [pid for pid in processes if _name(pid) == victim]
            os.kill(min(killed), signal.SIGKILL)  # of two shells the keeper came first

            def has_said(word: str, since: int = lines) -> bool:
                return any(word in record["event"] for record in _records(server)[since:])

            await eventually(lambda: has_said("Valkey has died"))
            await eventually(lambda: has_said("Redis is away"))
            await eventually(lambda: has_said("Redis is there"), within=20)
            await server.ready()
            assert not set(processes) & set(_processes_of(data))
        assert await _texts(server) == ["before the server", "before the keeper"]
        assert await _post(server, "after")
        server.signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
    finally:
        server.stop()
    await _is_gone(data)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


Scenario = Callable[[Path], Coroutine[Any, Any, None]]
Scenarios = dict[Scenario, asyncio.Task[None]]
_ALL: tuple[Scenario, ...] = (
    _lives_and_dies,
    _lives_far_down,
    _data_is_a_file,
    _valkey_dies_at_once,
    _valkey_dies_later,
)


@pytest.fixture(scope="module", autouse=True)
async def stories(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scenarios]:
    told = {story: story(tmp_path_factory.mktemp("story")) for story in _ALL}
    async with run_scenarios(told) as tasks:
        yield tasks


async def test_embedded_server_keeps_its_data_and_leaves_nothing(stories: Scenarios) -> None:
    """Ctrl-C, SIGTERM and SIGKILL take Valkey down with the server, and the messages stay.

    A second server on the same folder is refused in one line that says so.
    """
    await stories[_lives_and_dies]


async def test_embedded_server_takes_any_path(stories: Scenarios) -> None:
    """A path longer than a socket's name may be works, and leaves nothing elsewhere."""
    await stories[_lives_far_down]


async def test_embedded_server_says_what_is_wrong_with_its_folder(stories: Scenarios) -> None:
    """A folder that cannot be one is named in one line."""
    await stories[_data_is_a_file]


async def test_embedded_server_says_why_valkey_does_not_start(stories: Scenarios) -> None:
    """A Valkey that ends at once is told at once, with what it has said last."""
    await stories[_valkey_dies_at_once]


async def test_embedded_server_starts_valkey_again(stories: Scenarios) -> None:
    """A Valkey that dies is noticed and started again, one at a time, and has every message."""
    await stories[_valkey_dies_later]


# Streams


async def test_open_streams_are_no_requests(server: Server, client: httpx.AsyncClient) -> None:
    """The server counts a request when it is over, which a stream's is while it goes on."""
    streams = await _open_many(server, 20)
    for stream in streams:
        await stream.until("pods")

    async def counted() -> bool:
        metrics = (await client.get("/metrics")).text
        assert "\nguestbook_streams 20.0\n" in metrics
        counter = 'guestbook_http_requests_total{method="GET",route="/events",status="200"}'
        return f"\n{counter} 20.0\n" in metrics

    await eventually(counted)
    for stream in streams:
        stream.cut()


async def test_client_that_pipelines_leaves_nothing_behind(
    client: httpx.AsyncClient, server: Server
) -> None:
    """A stream ends with its client, also where further requests came behind the one it is for."""
    for version in ("1.1", "1.0"):
        request = b"GET /events HTTP/%s\r\nHost: guestbook\r\n\r\n" % version.encode()
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request * 5)
            await reader.readuntil(b"event: pods")
            writer.transport.abort()

    async def are_gone() -> bool:
        metrics = (await client.get("/metrics")).text
        assert "\nguestbook_streams_opened_total 40.0\n" in metrics
        return "\nguestbook_streams 0.0\n" in metrics

    await eventually(are_gone)


# The drain


async def test_sigterm_ends_a_thousand_streams(serve: Serve) -> None:
    """Within 2 s each stream has got `retry:`, `bye` and its last chunk, and the process is gone.

    Streams that go through ASGI's `send` (HTTP/1.0, pipelined) end the same way. Until the end
    everything else is answered, and a new stream is sent elsewhere.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await serve()
    streams = await _open_many(server, _STREAMS - 2)
    further = b"GET /healthz HTTP/1.1\r\nHost: guestbook\r\n\r\n"
    streams.append(await EventStream(server.url, version="1.0").__aenter__())
    streams.append(await EventStream(server.url, further=further).__aenter__())
    assert {stream.head.status for stream in streams} == {200}
    ends: list[float] = []

    async def read(stream: EventStream) -> list[Event]:
        events = await stream.rest(within=60)
        ends.append(time.monotonic())
        return events

    reading = [asyncio.create_task(read(stream)) for stream in streams]
    async with httpx.AsyncClient(base_url=server.url, timeout=2, verify=False) as http:
        signalled_at = time.monotonic()
        server.signal(signal.SIGTERM)
        ending = asyncio.create_task(server.ended())
        await eventually(lambda: _gives(http, "/ready", 503), within=0.5)
        ready = await http.get("/ready")
        assert ready.status_code == 503
        assert any("drain" in reason for reason in ready.json()["reasons"])
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/")).status_code == 200
        posted = await http.post("/messages", json={"text": "amid the drain"})
        assert posted.status_code == 201
        async with EventStream(server.url) as refused:
            assert refused.head.status == 503
            assert int(refused.head.headers["retry-after"]) >= 1
        # All that came before the last stream's end.
        assert not all(task.done() for task in reading)
    status = await ending
    ended_at = time.monotonic()
    assert status == -signal.SIGTERM
    assert ended_at - signalled_at < 2

    all_events = await asyncio.gather(*reading)
    assert ended_at - max(ends) < 1
    for stream, events in zip(streams, all_events, strict=True):
        assert events[-1].name == "bye"
        assert [event.name for event in events].count("bye") == 1
        assert len(stream.retries) == 2
        stream.cut()
    assert all(stream.is_complete for stream in streams)
    assert len({stream.retries[-1] for stream in streams}) > 100
    # Spread over the second that the drain takes, not all at once.
    assert max(ends) - min(ends) > 0.5
    messages = [sum(event.name == "message" for event in events) for events in all_events]
    assert 0 < sum(messages) <= _STREAMS
    records = _records(server)
    assert sum(record.get("reason") == "drain" for record in records) == _STREAMS
    assert not any(record["level"] in ("warning", "error", "critical") for record in records)


async def _gives(http: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await http.get(path)).status_code == status


async def test_sigint_ends_without_a_word_of_python(serve: Serve) -> None:
    """Ctrl-C ends the streams properly too, and the exit status tells of it: no traceback."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="0")
    async with EventStream(server.url) as stream:
        await stream.until("pods")
        server.signal(signal.SIGINT)
        events = await stream.rest()
        assert events[-1].name == "bye"
        assert stream.is_complete
    assert await server.ended() == -signal.SIGINT
    assert "Traceback" not in server.lines()


async def test_second_signal_ends_at_once(serve: Serve) -> None:
    """Who does not want to wait for the drain asks twice."""
    one, two = await asyncio.gather(
        serve("pod-a", GUESTBOOK_DRAIN_SECONDS="60"), serve("pod-b", GUESTBOOK_DRAIN_SECONDS="60")
    )
    for server, number in ((one, signal.SIGTERM), (two, signal.SIGINT)):
        async with EventStream(server.url) as stream:
            await stream.until("pods")
            server.signal(number)
            await server.until("/ready", 503)
            server.signal(number)
            assert await server.ended(within=1.5) == -number
        assert "Traceback" not in server.lines()


async def test_drain_without_streams_keeps_answering(serve: Serve) -> None:
    """A pod without streams drains as long: load balancers learn of its end later than it does."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="1")
    server.signal(signal.SIGTERM)
    started = time.monotonic()
    async with httpx.AsyncClient(base_url=server.url, timeout=1, verify=False) as http:
        while time.monotonic() - started < 0.8:
            assert (await http.get("/")).status_code == 200
            await asyncio.sleep(0.1)
        assert (await http.get("/ready")).status_code == 503
    assert await server.ended() == -signal.SIGTERM


async def test_sigterm_while_redis_is_away(serve: Serve) -> None:
    """A pod that never saw Redis ends as promptly, with its streams."""
    server = await serve(redis=_NOWHERE, is_ready=False)
    async with EventStream(server.url) as stream:
        await stream.until("pods")
        server.signal(signal.SIGTERM)
        assert (await stream.rest())[-1].name == "bye"
        assert stream.is_complete
    assert await server.ended(within=2) == -signal.SIGTERM
    assert "Traceback" not in server.lines()
