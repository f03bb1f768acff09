"""Traces by OpenTelemetry, imported only if OpenTelemetry's own variables ask for them.

A request is a span, and so is the script that stores its message. The entry in Redis contains the
script's span context, and each process that delivers the entry adds a span below it.

FastAPI's own spans would report every detached stream as a failure, because it sends no response
through ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry import context, propagate
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from guestbook import __version__
from guestbook.core import LogEntry
from guestbook.settings import SettingsError
from guestbook.storage import EVENTS
from guestbook.telemetry.requests import current_id

_FLUSH_SECONDS = 0.5

# Entries always carry W3C's format; OTEL_PROPAGATORS is about requests.
_W3C = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans and exports them from a thread of its own. Raises SettingsError."""

    def __init__(self, variables: Mapping[str, str], pod: str) -> None:
        own = {
            "service.name": "guestbook",
            "service.version": __version__,
            "service.instance.id": pod,
        }
        try:
            exporter = _exporter(variables)
            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
            resource = Resource.create(own).merge(OTELResourceDetector().detect())
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        except ValueError as error:
            raise SettingsError(f"an OTEL_* variable has a wrong value: {error}") from None
        self._tracer = self._provider.get_tracer("guestbook", __version__)

    async def close(self) -> None:
        """Export the last spans, but do not wait long for a collector that does not answer."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        # An export that fails now would only add noise to the last lines of the log.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        closing.start()
        await asyncio.to_thread(closing.join, _FLUSH_SECONDS)

    def begin(self, scope: Mapping[str, Any]) -> Span:
        """Start the span of the request of an ASGI scope and make it the current one."""
        headers, client = scope["headers"], scope["client"]
        carrier = {str(name, "latin-1"): str(value, "latin-1") for name, value in headers}
        span = self._tracer.start_span(
            scope["method"],
            # Not below the current span: that belongs to another request of the connection.
            context=propagate.extract(carrier, context.Context()),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "client.address": client[0] if client else "",
            },
        )
        context.attach(set_span_in_context(span))
        return span

    @staticmethod
    def trace_id(span: Span) -> str:
        """Return the id of the span's trace."""
        return format(span.get_span_context().trace_id, "032x")

    @staticmethod
    def end(span: Span, method: str, route: str, status: int) -> None:
        """End the span of a request that was answered."""
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("guestbook.request_id", current_id.get())
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    @contextlib.contextmanager
    def command(self, name: str) -> Iterator[str]:
        """Make a span of a script that Redis runs; yield its `traceparent`, "" if not sampled."""
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

    def deliver(self, entry: LogEntry, seconds: float, streams: int) -> None:
        """Make a span of an entry's delivery to all streams, `seconds` after Redis stored it."""
        if not entry.trace:
            return
        now = time.time_ns()
        span = self._tracer.start_span(
            "deliver",
            context=_W3C.extract({"traceparent": entry.trace}, context.Context()),
            kind=SpanKind.CONSUMER,
            start_time=now - int(seconds * 1e9),
            attributes={
                "messaging.system": "redis",
                "messaging.operation.type": "process",
                "messaging.destination.name": EVENTS,
                "messaging.message.id": str(entry.id),
                "guestbook.streams": streams,
            },
        )
        span.end(now)


def _exporter(variables: Mapping[str, str]) -> SpanExporter:
    name = variables.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER is {name}: it may be otlp, console or none")
    protocol = (
        variables.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or variables.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if protocol != "http/protobuf":
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: only http/protobuf is supported"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()
