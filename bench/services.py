"""The measured servers, all on one core, and how to publish to each."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hiredis

from tests.support.ports import free_port
from tests.support.valkey import Valkey as ValkeyServer

HERE = Path(__file__).parent
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
STREAM_KEY = "{guestbook}:events"
SERVER_CORE, CLIENT_CORE = 0, 1
_TEXT_BYTES = 92
_START_SECONDS = 20.0
_made = itertools.count()
_pack: Callable[[Any], bytes] = hiredis.pack_command


def pinned(core: int, command: list[str]) -> list[str]:
    """Return the command, bound to one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def put_first(pid: int) -> None:
    """Give the measuring processes priority over the load client, if permitted."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def text(number: int) -> str:
    """Return a message with its number and the time; its event has about 220 bytes."""
    return f"@@{number:08d}@{time.monotonic_ns():019d}@".ljust(_TEXT_BYTES, "x")


def as_json(words: str) -> tuple[str, str]:
    """Return a message as in the guestbook's API, for servers that only pass it on."""
    now = time.time()
    event_id = f"{int(now * 1000)}-{next(_made)}"
    posted_at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".000Z"
    message = {
        "id": event_id,
        "author": None,
        "text": words,
        "posted_at": posted_at,
        "pod": "bench",
    }
    return event_id, json.dumps(message, separators=(",", ":"))


@dataclass
class Service:
    """A running server. `send` publishes texts, all at once."""

    name: str
    port: int
    pids: list[int]
    send: Callable[[list[str]], None]
    process: subprocess.Popen[bytes]
    path: str = "/events"
    published: int = 0

    def publish(self, count: int = 1) -> None:
        texts = [text(self.published + i) for i in range(count)]
        self.published += count
        self.send(texts)


@dataclass
class Valkey:
    """The benchmark's own Valkey, and a connection to it."""

    port: int
    pid: int
    connection: socket.socket
    reader: hiredis.Reader = field(default_factory=hiredis.Reader)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def post(self, *commands: tuple[str, ...]) -> None:
        """Send commands in one piece, without waiting for the replies."""
        self.connection.sendall(b"".join(_pack(command) for command in commands))

    def take(self, count: int) -> list[object]:
        """Return the next replies."""
        replies: list[object] = []
        while len(replies) < count:
            reply = self.reader.gets()
            if reply is False:
                self.reader.feed(self.connection.recv(65536))
            elif isinstance(reply, hiredis.ReplyError):
                raise reply
            else:
                replies.append(reply)
        return replies

    def ask(self, *commands: tuple[str, ...]) -> list[object]:
        self.post(*commands)
        return self.take(len(commands))

    def commands(self) -> dict[str, int]:
        """Return how often each command was run since the server started, without this one."""
        (info,) = self.ask(("INFO", "commandstats"))
        assert isinstance(info, bytes)
        lines = (line.partition(":") for line in info.decode().split() if ":" in line)
        counts = {name[8:]: int(rest.split("calls=")[1].split(",")[0]) for name, _, rest in lines}
        return {name: n for name, n in counts.items() if name != "info"}

    def info(self, section: str, name: str) -> int:
        (info,) = self.ask(("INFO", section))
        assert isinstance(info, bytes)
        return int(info.decode().split(f"\n{name}:")[1].split()[0])


@contextlib.contextmanager
def valkey() -> Iterator[Valkey]:
    """Run a Valkey on the client's core, without persistence."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--appendonly", "no", "--loglevel", "warning"]
        server = ValkeyServer(Path(folder), *options, under=pinned(CLIENT_CORE, [])).start()
        try:
            put_first(server.pid)
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                yield Valkey(server.port, server.pid, connection)
        finally:
            server.kill()


@contextlib.contextmanager
def guestbook(redis: Valkey, **settings: str) -> Iterator[Service]:
    """Run `guestbook serve` as it is installed, and wait until it is ready."""

    def send(texts: list[str]) -> None:
        redis.ask(*(("XADD", STREAM_KEY, "*", "text", t, "pod", "bench") for t in texts))

    port = free_port()
    with guestbook_process(redis, port, **settings) as process:
        until_ready(port)
        yield Service("guestbook", port, [process.pid], send, process)


def guestbook_process(
    redis: Valkey, port: int, **settings: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start `guestbook serve`."""
    env = {
        "REDIS_URL": redis.url,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "HOSTNAME": "bench",
        "GUESTBOOK_MAX_STREAMS": "20000",
        **settings,
    }
    return _process([sys.executable, "-m", "guestbook", "serve"], SERVER_CORE, env)


@contextlib.contextmanager
def floor(build: Path) -> Iterator[Service]:
    """Run the C loop; a burst is prepared beforehand and is one `send` to each stream."""

    def send(texts: list[str]) -> None:
        events = b"".join(b"id: %s\ndata: %s\n\n" % _encoded(t) for t in texts)
        record = b"%x\r\n%s\r\n" % (len(events), events)
        assert process.stdin is not None
        process.stdin.write(b"%d\n%s" % (len(record), record))
        process.stdin.flush()

    port = free_port()
    pipe = subprocess.PIPE
    with _process(
        [str(build / "floor"), str(port)], SERVER_CORE, stdin=pipe, stdout=pipe
    ) as process:
        until_open(port)
        yield Service("floor", port, [process.pid], send, process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        sends = json.loads(process.stdout.readline())
        assert not sends["broken"], f"the floor could not send all: {sends}"


def _encoded(words: str) -> tuple[bytes, bytes]:
    event_id, message = as_json(words)
    return event_id.encode(), message.encode()


def has_nchan() -> bool:
    return NCHAN_MODULE.exists() and shutil.which("nginx") is not None


@contextlib.contextmanager
def nchan(folder: Path) -> Iterator[Service]:
    """Run nginx with nchan, one worker; a burst is posted in one piece on one connection."""

    def send(texts: list[str]) -> None:
        requests = []
        for words in texts:
            _, message = as_json(words)
            head = (
                f"POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(message)}\r\n\r\n"
            )
            requests.append(head.encode() + message.encode())
        publisher.sendall(b"".join(requests))
        answers = 0
        while answers < len(texts):
            got = publisher.recv(65536)
            assert got, "nchan closed the publisher's connection"
            answers += got.count(b"HTTP/1.1 20")

    port = free_port()
    folder.mkdir()
    folder.chmod(0o755)
    template = (HERE / "peers/nchan.conf").read_text()
    config = folder / "nginx.conf"
    config.write_text(template.replace("PORT", str(port)).replace("FOLDER", str(folder)))
    command = ["nginx", "-c", str(config), "-p", str(folder), "-e", str(folder / "nginx.log")]
    with _process(command, SERVER_CORE) as process:
        until_open(port)
        while not (workers := _children(process.pid)):
            time.sleep(0.01)
        pids = [process.pid, *workers]
        with socket.create_connection(("127.0.0.1", port)) as publisher:
            yield Service("nchan", port, pids, send, process)


@contextlib.contextmanager
def application(name: str, redis: Valkey) -> Iterator[Service]:
    """Run one of the applications in `peers` with uvicorn."""

    def send(texts: list[str]) -> None:
        redis.ask(*(("PUBLISH", "messages", as_json(t)[1]) for t in texts))

    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"{name}_app:app", "--app-dir", str(HERE / "peers")]
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    with _process([*command, *options], SERVER_CORE, {"REDIS_URL": redis.url}) as process:
        until_open(port)
        time.sleep(0.5)
        yield Service(name, port, [process.pid], send, process)


@contextlib.contextmanager
def _process(
    command: list[str],
    core: int,
    env: dict[str, str] | None = None,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GUESTBOOK_")}
    process = subprocess.Popen(
        pinned(core, command),
        env={**inherited, **(env or {})},
        stdin=stdin,
        stdout=stdout,
        stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        for child in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def until_open(port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "a server did not start"
            time.sleep(0.005)


def until_ready(port: int) -> None:
    """Wait until `GET /ready` answers 200."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if get(port, "/ready").startswith(b"HTTP/1.1 200"):
                return
        assert time.monotonic() < deadline, "the guestbook did not become ready"
        time.sleep(0.005)


def get(port: int, path: str) -> bytes:
    """Return one answer with its head."""
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer
