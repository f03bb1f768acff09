"""Traces by OpenTelemetry. Imported only where the usual variables ask for them.

A request is a span; so is the script that stores its message, whose context goes along in the
stream's entry; and each process that delivers the entry adds a span to that, so that one trace
shows the way of a message from a visitor to everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping

from opentelemetry import context, propagate
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from guestbook import __version__
from guestbook.core import LogEntry
from guestbook.storage import EVENTS

_FLUSH_SECONDS = 0.5
# What goes along in an entry is ours, whatever OTEL_PROPAGATORS says of requests.
_W3C = TraceContextTextMapPropagator()


class TracingError(Exception):
    """Traces cannot be had as the variables ask for them; the text names the variable."""


class Tracing:
    """Makes spans, and sends them off from a thread of its own. Raises TracingError."""

    def __init__(self, variables: Mapping[str, str], pod: str) -> None:
        own = {
            "service.name": "guestbook",
            "service.version": __version__,
            "service.instance.id": pod,
        }
        try:
            exporter = _exporter(variables)
            # What the variables say of the service goes before what we say.
            resource = Resource.create(own).merge(OTELResourceDetector().detect())
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        except ValueError as error:
            raise TracingError(f"an OTEL_* variable has a wrong value: {error}") from None
        self._tracer = self._provider.get_tracer("guestbook", __version__)

    async def close(self) -> None:
        """Sends what is left, but does not wait long for who takes it."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        # What it could not send any more is nobody's concern now.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        closing.start()
        await asyncio.to_thread(closing.join, _FLUSH_SECONDS)

    def begin(self, scope: Scope) -> Span:
        """The span of a request, which is the current one from now on."""
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span(
            scope["method"],
            # Whatever was current belongs to another request of the same connection.
            context=propagate.extract(headers, context.Context()),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "client.address": scope["client"][0] if scope["client"] else "",
            },
        )
        context.attach(set_span_in_context(span))
        return span

    @staticmethod
    def trace_id(span: Span) -> str:
        """The id of the trace that a span is part of."""
        return format(span.get_span_context().trace_id, "032x")

    def end(self, span: Span, scope: Scope, route: str, status: int) -> None:
        """The request has been answered."""
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    @contextlib.contextmanager
    def command(self, name: str) -> Iterator[str]:
        """A script that Redis runs. Gives what its entry takes along: empty if not recorded."""
        attributes = {
            "db.system.name": "redis",
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": name,
        }
        with self._tracer.start_as_current_span(
            f"redis {name}", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            carrier: dict[str, str] = {}
            if span.get_span_context().trace_flags.sampled:
                _W3C.inject(carrier)
            yield carrier.get("traceparent", "")

    def deliver(self, record: LogEntry, seconds: float, streams: int) -> None:
        """An entry has been written to all streams, so long after Redis stored it."""
        if not record.trace:
            return
        now = time.time_ns()
        span = self._tracer.start_span(
            "deliver",
            context=_W3C.extract({"traceparent": record.trace}, context.Context()),
            kind=SpanKind.CONSUMER,
            start_time=now - int(seconds * 1e9),
            attributes={
                "messaging.system": "redis",
                "messaging.operation.type": "process",
                "messaging.destination.name": EVENTS,
                "messaging.message.id": str(record.id),
                "guestbook.streams": streams,
            },
        )
        span.end(now)


def _exporter(variables: Mapping[str, str]) -> SpanExporter:
    name = variables.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        raise TracingError(f"OTEL_TRACES_EXPORTER is {name}: it should be otlp, console or none")
    protocol = (
        variables.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or variables.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if protocol != "http/protobuf":
        raise TracingError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: only http/protobuf is spoken here"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()
