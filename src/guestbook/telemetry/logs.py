"""The log: one line for each event on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

from guestbook.telemetry.log_file import open_log
from guestbook.telemetry.requests import current_id

# Made once, because json.dumps would make an encoder for each line. It writes ASCII: JSON may hold
# control characters and line ends outside of ASCII.
_encode = json.JSONEncoder(default=repr).encode


def configure(level: str, form: Literal["text", "json"] | None) -> None:
    """Write structlog's lines and the standard library's, such as uvicorn's, in the same form."""
    log = open_log()
    is_text = form == "text" or (form is None and log.isatty())
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not is_text),
        _add_request_id,
    ]
    renderer: list[Processor] = [structlog.processors.format_exc_info, _render]
    if is_text:
        # Values are written with escapes, so that a request cannot forge a line.
        text = structlog.dev.ConsoleRenderer(
            colors=log.isatty(),
            repr_native_str=True,
            pad_event_to=0,
            # The default shows local variables, and with them secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
        renderer = [text]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(log),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(log)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # The guestbook itself logs its start and its end.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))


def _add_request_id(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Add the id of the request that is being answered."""
    request_id = current_id.get()
    if request_id:
        line.setdefault("request_id", request_id)
    return line


def _render(_logger: object, _method: str, line: EventDict) -> str:
    """Return the line as JSON; the keys that every line has come first."""
    return _encode({"timestamp": None, "level": None, "event": None, **line})
