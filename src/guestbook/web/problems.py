"""The exception handlers: every error is a problem (RFC 9457), or a page for a browser."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from guestbook.core import PROBLEM_TYPE, ProblemError
from guestbook.web.pages.i18n import prefers_page
from guestbook.web.pages.renderer import FormData, Page
from guestbook.web.routes import events, moderation

Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]

logger = structlog.get_logger(__name__)

# Pydantic's kinds of error for which the API has a word and a sentence of its own.
_CODES = {
    "json_invalid": ("invalid", "is not valid JSON: {error}"),
    "missing": ("missing", "is missing"),
    "model_type": ("invalid", "must be a JSON object"),
    "string_type": ("not_a_string", "must be a string"),
}


async def problem(request: Request, error: ProblemError) -> Response:
    """Return the error as JSON, or as a page for a browser; a form keeps its input."""
    # For the metrics.
    request.state.code = error.code
    headers = {**error.headers, "Vary": "Accept, Accept-Language"}
    if not prefers_page(request.headers.get("accept", "")):
        return Response(error.json(), error.status, headers, media_type=PROBLEM_TYPE)
    page: Page = request.app.state.page
    language = page.translations.language(request.scope)
    form: FormData | None = getattr(request.state, "form", None)
    html = page.refused(language, error, form) if form else page.error(language, error)
    return Response(
        html, error.status, {**headers, "Content-Language": language}, media_type="text/html"
    )


async def failure(request: Request, error: Exception) -> Response:
    """Answer an error that no handler below takes: what is no problem is a bug."""
    if not isinstance(error, ProblemError):
        logger.exception("a request failed")
        error = ProblemError(500, "This is a bug of the guestbook; its log has the details.")
    return await problem(request, error)


async def invalid_request(request: Request, error: RequestValidationError) -> Response:
    """Answer FastAPI's own validation error."""
    first: Mapping[str, Any] = error.errors()[0]
    kind, place = str(first["type"]), first["loc"]
    if kind == "string_type" and first.get("input") is None:
        kind = "missing"
    reason = str(first["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    code, sentence = _CODES.get(kind, (kind, ""))
    if sentence:
        reason = sentence.format_map(first.get("ctx", {}))
    field = str(place[-1]) if place else "body"
    return await problem(request, ProblemError(422, reason, field=field, code=code))


async def http_error(request: Request, error: HTTPException) -> Response:
    """No route matches the request, or Starlette raised something else."""
    detail, headers = error.detail, error.headers
    if error.status_code == 404:
        detail = "There is nothing at this address."
    elif error.status_code == 405:
        allowed = ", ".join(sorted(_allowed_methods(request)))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        detail = f"This address does not take {request.method}, but {allowed}."
        headers = {"Allow": allowed}
    return await problem(request, ProblemError(error.status_code, detail, headers=headers))


def has_head(path: str) -> bool:
    """Return whether HEAD is allowed: not for streams, which do not end, nor for `/rpush`."""
    return path not in (events.PATH, moderation.EVENTS) and not path.startswith("/rpush/")


EXCEPTION_HANDLERS: dict[int | type[Exception], Handler] = {
    ProblemError: problem,
    HTTPException: http_error,
    RequestValidationError: invalid_request,
}


def _allowed_methods(request: Request) -> set[str]:
    """Return the methods of all routes of the address; Starlette only names the first's."""
    routes = [
        route
        for route in iter_route_contexts(request.app.routes)
        if route.matches(request.scope)[0] is not Match.NONE
    ]
    # `/held/events` is also an address of the form `/held/{message_id}`.
    methods = {m for route in routes if route.path == routes[0].path for m in route.methods or ()}
    # Below a mounted folder of files no route of the application matches.
    methods = methods or {"GET"}
    head = {"HEAD"} if "GET" in methods and has_head(request.url.path) else set()
    return (methods - {"HEAD"}) | head | {"OPTIONS"}
