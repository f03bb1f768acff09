"""The log: one line an event on standard error, as text for a person or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure(level: str, form: Literal["text", "json"] | None) -> None:
    """Sends structlog's and the standard library's lines (uvicorn's among them) the same way."""
    is_text = form == "text" or (form is None and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=not is_text),
        # uvicorn's copies of a message for terminals that show colours.
        structlog.stdlib.ExtraAdder(allow=()),
    ]
    renderer: list[structlog.typing.Processor]
    if is_text:
        # Values of others are shown with escapes, so that none can forge a line.
        renderer = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), repr_native_str=True, pad_event_to=0
            )
        ]
    else:
        renderer = [
            structlog.processors.format_exc_info,
            _put_first,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
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
    # Its start and its end are told by the lines of this program.
    logging.getLogger("uvicorn.error").setLevel(
        max(logging.WARNING, logging.getLevelName(level.upper()))
    )


def _put_first(
    _logger: object, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What every line has stands where the eye looks for it."""
    return {"timestamp": None, "level": None, "event": None, **line}
