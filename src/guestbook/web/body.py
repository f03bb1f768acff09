"""Reads a posted message from a request's body, within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from guestbook.core import ProblemError

MAX_BYTES = 16 * 1024
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Posted:
    """What somebody wants to post, as they sent it: not yet looked at."""

    text: object = None
    author: object = None


def media_type(request: Request) -> str:
    """The body's media type without parameters; ProblemError 415 unless it is JSON or a form."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in (JSON, FORM):
        raise ProblemError(
            415,
            f"The body's type is {given or 'not given'}: send {JSON} or {FORM}.",
            headers={"Accept-Post": f"{JSON}, {FORM}"},
        )
    return given


async def read(request: Request) -> bytes:
    """The body; ProblemError 413 as soon as it is known to be too long, 400 if it breaks off."""
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


def parse(media: str, body: bytes) -> Posted:
    """The fields of a message; ProblemError 422 where the body cannot be read."""
    fields = _parse_json(body) if media == JSON else _parse_form(body)
    return Posted(fields.get("text"), fields.get("author"))


def _parse_json(body: bytes) -> dict[str, object]:
    try:
        value = from_json(body)
    except ValueError as error:
        raise ProblemError(422, f"is not valid JSON: {error}", field="body") from None
    if not isinstance(value, dict):
        raise ProblemError(422, 'must be a JSON object with "text"', field="body")
    return value


def _parse_form(body: bytes) -> dict[str, object]:
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except UnicodeDecodeError:
        raise ProblemError(422, "is not UTF-8", field="body") from None
    except ValueError:
        raise ProblemError(422, f"has more than {_MAX_FIELDS} fields", field="body") from None
    return dict(pairs)
