"""The bodies of requests, JSON or a form: at most 16 KiB.

FastAPI's own body parameters do not fit. They take either JSON or a form, a parser of forms would
be another dependency, deeply nested JSON is a 400, `max_body_size` answers as plain text, and they
are read before anything else, such as a token, is looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from guestbook.core import NewMessage, ProblemError
from guestbook.web.dependencies import refuse_cross_site, refuse_if_match
from guestbook.web.pages.renderer import FormData
from guestbook.web.schemas import MessageForm, MessageIn

MAX_BYTES = 16 * 1024
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 100

T = TypeVar("T", bound=BaseModel)


class Posted(NamedTuple):
    """A message that a client posts, and whether it came from a form."""

    message: NewMessage
    is_form: bool


async def read_posted(request: Request) -> Posted:
    """Read and check the message. Raises ProblemError and what NewMessage.parse raises."""
    media_type = _media_type(request, JSON, FORM)
    is_form = media_type == FORM
    if is_form:
        # From here on an error is shown on the page, with the visitor's input.
        request.state.form = FormData()
    await refuse_cross_site(request)
    await refuse_if_match(request)
    body = await _read(request)
    message: MessageIn
    if is_form:
        fields = _parse_form(body)
        request.state.form = FormData(fields.get("text", ""), fields.get("author", ""))
        message = _validated(MessageForm.model_validate, fields)
    else:
        message = _validated(MessageIn.model_validate_json, body)
    return Posted(NewMessage.parse(message.text, message.author), is_form)


def json_body(model: type[T]) -> Callable[[Request], Awaitable[T]]:
    """Return the dependency that reads a body, which must be JSON, as a model."""

    async def read(request: Request) -> T:
        _media_type(request, JSON)
        return _validated(model.model_validate_json, await _read(request))

    return read


def _validated(validate: Callable[[Any], T], body: object) -> T:
    try:
        return validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None


def _media_type(request: Request, *allowed: str) -> str:
    """Return the media type without parameters; ProblemError 415 unless it is allowed."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in allowed:
        raise ProblemError(
            415,
            f"The body's type is {media_type or 'missing'}: send {' or '.join(allowed)}.",
            headers={f"Accept-{request.method.title()}": ", ".join(allowed)},
        )
    return media_type


async def _read(request: Request) -> bytes:
    """Read the body; ProblemError 413 as soon as it is known to be too long."""
    announced = request.headers.get("content-length", "")
    body = b""
    if not announced.isdigit() or int(announced[:20]) <= MAX_BYTES:
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BYTES:
                    break
            else:
                return body
        except ClientDisconnect:
            raise ProblemError(400, "The request ended before its body was complete.") from None
    raise ProblemError(413, f"The body is too long: at most {MAX_BYTES} bytes are read.")


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise ProblemError(422, "is not UTF-8", field="body") from None
    except ValueError:
        raise ProblemError(422, f"has more than {_MAX_FIELDS} fields", field="body") from None
    return dict(fields)
