"""The log: one line an event on standard error, as text for a person or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

from guestbook.telemetry.requests import current_id

# Made once: json.dumps would make an encoder for each line. In ASCII: elsewhere there are control
# characters and line ends too, which JSON may have.
_encode = json.JSONEncoder(default=repr).encode


def configure(level: str, form: Literal["text", "json"] | None) -> None:
    """Has structlog's lines and the standard library's (uvicorn's among them) look the same."""
    is_text = form == "text" or (form is None and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not is_text),
        _name_request,
    ]
    renderer = _text() if is_text else _json()
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Its start and its end are told by lines of this program.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))


def _text() -> list[Processor]:
    # Values are shown with escapes, so that what came from outside cannot forge a line.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            repr_native_str=True,
            pad_event_to=0,
            # The default shows local variables, and with them what must not be shown.
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _json() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _put_first,
        structlog.processors.JSONRenderer(lambda line, **_: _encode(line)),
    ]


def _name_request(_logger: object, _method: str, line: EventDict) -> EventDict:
    """A line that is logged while a request is answered says which."""
    request_id = current_id.get()
    if request_id:
        line.setdefault("request_id", request_id)
    return line


def _put_first(_logger: object, _method: str, line: EventDict) -> EventDict:
    """What every line has stands where the eye looks for it."""
    return {"timestamp": None, "level": None, "event": None, **line}
