"""Traces, as a collector receives them from two pods, and the start without them."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from guestbook.core.messages import Message
from guestbook.settings import SettingsError, are_traces_wanted
from guestbook.storage.entries import decode
from guestbook.telemetry.tracing import Tracing
from tests.conftest import Serve, two_pods
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import redis_client
from tests.support.waiting import eventually

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_PARENT = "b7ad6b7169203331"


class Collector(http.server.ThreadingHTTPServer):
    """Receives spans from OTLP exporters."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.spans.append(
                    {
                        "name": span.name,
                        "pod": resource["service.instance.id"],
                        "service": resource["service.name"],
                        "trace": span.trace_id.hex(),
                        "id": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "took": span.end_time_unix_nano - span.start_time_unix_nano,
                        "failed": span.status.code == span.status.STATUS_CODE_ERROR,
                        **_attributes(span.attributes),
                    }
                )

    def of(self, trace: str) -> list[dict[str, Any]]:
        """Return the spans of a trace that have arrived."""
        return [span for span in self.spans if span["trace"] == trace]


def _attributes(pairs: Any) -> dict[str, Any]:
    values = {pair.key: pair.value for pair in pairs}
    return {key: getattr(v, v.WhichOneof("value")) for key, v in values.items()}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # the library's name
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces"
        self.server.take(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Do not log requests."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve, collector: Collector) -> list[Server]:
    """Two pods that export spans at once."""
    return await two_pods(
        serve_shared,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_SERVICE_NAME="our-guestbook",
        GUESTBOOK_ADMIN_TOKEN="t0ken",
    )


async def test_message_is_one_trace_from_the_request_to_every_pod(
    pods: list[Server], collector: Collector
) -> None:
    """The request, Redis's script below it, and below that the delivery on each pod."""
    async with EventStream(pods[0].url) as here, EventStream(pods[1].url) as there:
        for stream in (here, there):
            await stream.until("pods")
        async with pods[0].client() as http:
            headers = {"traceparent": f"00-{_TRACE}-{_PARENT}-01"}
            answer = await http.post("/messages", json={"text": "traced"}, headers=headers)
        for stream in (here, there):
            (message,) = await stream.messages(1)
            # Nothing of it is in the message.
            assert message == answer.json()
            assert set(message) == {"id", "author", "text", "posted_at", "pod"}
    await eventually(lambda: len(collector.of(_TRACE)) >= 4)
    by_name = {(span["name"], span["pod"]): span for span in collector.of(_TRACE)}
    request = by_name["POST /messages", "pod-a"]
    script = by_name["redis post", "pod-a"]
    deliveries = [by_name["deliver", pod] for pod in ("pod-a", "pod-b")]
    assert len(by_name) == 4
    assert request["parent"] == _PARENT
    assert script["parent"] == request["id"]
    assert [span["parent"] for span in deliveries] == [script["id"]] * 2
    assert (request["http.route"], request["http.response.status_code"]) == ("/messages", 201)
    assert {span["messaging.message.id"] for span in deliveries} == {answer.json()["id"]}
    assert {span["guestbook.streams"] for span in deliveries} == {1}
    assert {span["service"] for span in by_name.values()} == {"our-guestbook"}
    assert all(0 <= span["took"] < 60e9 for span in by_name.values())


async def test_deletion_is_a_trace_too(pods: list[Server], collector: Collector) -> None:
    """A deletion's trace shows when the message was gone from every page."""
    trace = "1" * 32
    async with EventStream(pods[1].url) as stream, pods[0].client() as http:
        await stream.until("pods")
        message = (await http.post("/messages", json={"text": "to go"})).json()
        headers = {"Authorization": "Bearer t0ken", "traceparent": f"00-{trace}-{_PARENT}-01"}
        await http.delete(f"/messages/{message['id']}", headers=headers)
        await stream.until("deleted")
    await eventually(lambda: len(collector.of(trace)) >= 3)
    names = {span["name"] for span in collector.of(trace)}
    assert names == {"DELETE /messages/{message_id}", "redis delete", "deliver"}


async def test_new_trace_names_the_request(pods: list[Server], collector: Collector) -> None:
    """Without a client's id the trace's id is the request's, in the answer and the log."""
    async with pods[0].client() as http:
        answer = await http.get("/nowhere")
        for path in ("/healthz", "/ready", "/metrics"):
            await http.get(path, headers={"traceparent": f"00-{'2' * 32}-{_PARENT}-01"})
    request_id = answer.headers["x-request-id"]
    await eventually(lambda: bool(collector.of(request_id)))
    (span,) = collector.of(request_id)
    assert (span["name"], span["http.response.status_code"]) == ("GET none", 404)
    assert not span["failed"]
    await eventually(lambda: request_id in pods[0].lines())
    # Probes are in no trace.
    assert not collector.of("2" * 32)


async def test_unsampled_request_leaves_nothing(pods: list[Server], collector: Collector) -> None:
    """A trace that its origin does not sample is neither recorded nor passed on to other pods."""
    async with pods[0].client() as http:
        headers = {"traceparent": f"00-{'3' * 32}-{_PARENT}-00"}
        answer = await http.post("/messages", json={"text": "unseen"}, headers=headers)
        await http.post("/messages", json={"text": "seen"})
    entry_id = answer.json()["id"]
    async with redis_client(pods[0].env["REDIS_URL"]) as redis:
        (unseen,), (seen,) = (
            await redis.xrange("{guestbook}:events", entry_id, entry_id),
            await redis.xrevrange("{guestbook}:events", count=1),
        )
    assert set(unseen[1]) == {"text", "pod"}
    assert set(seen[1]) == {"text", "pod", "trace"}
    assert not collector.of("3" * 32)


async def test_last_spans_are_sent_when_the_process_ends(
    serve: Serve, collector: Collector
) -> None:
    """The last spans are exported, and a collector that is away does not delay the end."""
    env = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "GUESTBOOK_DRAIN_SECONDS": "0"}
    one, two = await asyncio.gather(
        serve("pod-c", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **env),
        serve("pod-d", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}", **env),
    )
    for server in (one, two):
        async with server.client() as http:
            request_id = (await http.get("/messages")).headers["x-request-id"]
            if server is one:
                wanted = request_id
        server.signal(signal.SIGTERM)
    for server in (one, two):
        assert await server.ended(within=5) == -signal.SIGTERM
        assert "Traceback" not in server.lines()
    assert [span["name"] for span in collector.of(wanted)] == ["GET /messages"]


# Without traces


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
    ],
)
def test_usual_variables_switch_them_on(variables: dict[str, str], expected: bool) -> None:
    """Traces are on if the variables name an exporter or its address, and do not disable it."""
    assert are_traces_wanted(variables) is expected


# Runs the program as where the extra is not installed. (The API alone comes with FastAPI.)
_WITHOUT = """
import sys
sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = None
from guestbook.cli.main import app
app(["serve"])
"""


async def test_off_needs_nothing(tmp_path: Path, redis_url: str) -> None:
    """Without traces the service does not need OpenTelemetry's SDK."""
    server = Server(tmp_path / "log", redis_url)
    with server.log.open("ab") as log:
        command = [sys.executable, "-c", _WITHOUT]
        server.process = subprocess.Popen(command, env=server.env, stdout=log, stderr=log)
    with server:
        await server.ready()
        async with EventStream(server.url) as stream, server.client() as http:
            await stream.until("pods")
            assert (await http.post("/messages", json={"text": "x"})).status_code == 201
            await stream.entries(1)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [("OTEL_TRACES_EXPORTER", "otlp", "live-guestbook[otel]"), ("OTEL_PROPAGATORS", "b3", "b3")],
)
def test_what_is_not_installed_is_named(
    redis_url: str, variable: str, value: str, reason: str
) -> None:
    """A package that the variables need and that is missing is named in one line."""
    env = {**os.environ, "REDIS_URL": redis_url, "PORT": "0", variable: value}
    command = [sys.executable, "-c", _WITHOUT]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_TRACES_EXPORTER", "jaeger"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
)
def test_wrong_variable_is_named(variable: str, value: str) -> None:
    """A value that is not supported is refused with its variable."""
    with pytest.raises(SettingsError, match=f"{variable} is {value}"):
        Tracing({variable: value}, "pod-a")


def test_entry_of_any_version_is_read() -> None:
    """An entry with fields that this version does not know is read all the same."""
    entry = decode(b"1-0", {b"text": b"x", b"pod": b"p", b"trace": b"t", b"later": b"?"})
    assert isinstance(entry, Message)
    assert set(json.loads(entry.json())) == {"id", "author", "text", "posted_at", "pod"}
