"""The routes of messages: read, post, delete."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from starlette.responses import RedirectResponse, Response

from guestbook.core import (
    EntryId,
    InvalidMessageError,
    Message,
    NewMessage,
    ProblemError,
    unavailable,
)
from guestbook.pod import Guestbook, Listing, UnavailableError
from guestbook.storage import TooManyPostsError
from guestbook.web import body
from guestbook.web.admin import require_token
from guestbook.web.csrf import is_cross_site
from guestbook.web.pages.renderer import Page, Typed
from guestbook.web.route import PlainRoute
from guestbook.web.schemas import (
    ID_PATTERN,
    IDEMPOTENCY_KEY,
    MESSAGE_BODY,
    MESSAGES,
    PROBLEMS,
    PROBLEMS_OR_PAGE,
    MessageModel,
)

LIMIT_MAX = 1000
_KEY_MAX = 128
_PATTERN = {"pattern": ID_PATTERN}
_OLDER = Query(description="Only messages older than this id", json_schema_extra=_PATTERN)
_NEWER = Query(description="Only messages newer than this id", json_schema_extra=_PATTERN)


def parse_cursor(field: str, value: str) -> EntryId:
    """Reads an id that somebody sent; ProblemError 422 that names the field."""
    try:
        return EntryId.parse(value)
    except ValueError as error:
        raise ProblemError(422, str(error), field=field) from None


async def post(guestbook: Guestbook, request: Request, draft: NewMessage) -> Message:
    """Stores a draft in the name of a request. Raises ProblemError."""
    address = request.client.host if request.client else ""
    try:
        return await guestbook.post(draft, address=address, key=_idempotency_key(request))
    except TooManyPostsError as error:
        raise ProblemError(
            429,
            f"Too many messages from your address: try again in {error.seconds} s.",
            headers={"Retry-After": str(error.seconds)},
        ) from None
    except UnavailableError as error:
        reason = str(error) or "Redis did not take the message in time"
        raise unavailable(f"{reason}: try again.") from None


def refuse_cross_site(request: Request) -> None:
    """ProblemError 403 where another site's page sent the request."""
    if is_cross_site(request.headers):
        raise ProblemError(403, "Another site may not post here in your name.")


def install(app: FastAPI, guestbook: Guestbook, page: Page) -> None:
    """The routes below `/messages`."""

    async def create(request: Request) -> Response:
        media = body.media_type(request)
        posted = body.Posted()
        try:
            refuse_cross_site(request)
            posted = body.parse(media, await body.read(request))
            message = await post(guestbook, request, _draft(posted))
        except ProblemError as problem:
            if media == body.JSON or not _wants_page(request):
                raise
            return _page_with(page, page.translations.language(request.scope), problem, posted)
        if media == body.FORM:
            return RedirectResponse("/", 303)
        headers = {"Location": f"/messages/{message.id}"}
        return Response(message.json(), 201, headers, media_type=body.JSON)

    app.router.add_api_route(
        "/messages",
        create,
        methods=["POST"],
        route_class_override=PlainRoute,
        tags=["messages"],
        status_code=201,
        response_model=MessageModel,
        responses={
            201: {"headers": {"Location": {"schema": {"type": "string"}}}},
            303: {"description": "A form's message was stored: see the page."},
            **PROBLEMS(415),
            **PROBLEMS_OR_PAGE(403, 413, 422, 429, 503),
        },
        openapi_extra={"parameters": [IDEMPOTENCY_KEY], "requestBody": MESSAGE_BODY},
        summary="Post a message",
    )

    @app.get(
        "/messages",
        tags=["messages"],
        responses={200: MESSAGES, **PROBLEMS(422, 503)},
        summary="List messages, newest first; with `after` oldest first",
    )
    async def index(
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 50,
        before: Annotated[str | None, _OLDER] = None,
        after: Annotated[str | None, _NEWER] = None,
    ) -> Response:
        if before is not None and after is not None:
            raise ProblemError(422, "goes without `before`: ask for one direction", field="after")
        try:
            if after is not None:
                listing = await guestbook.since(parse_cursor("after", after), limit)
            else:
                edge = None if before is None else parse_cursor("before", before)
                listing = await guestbook.newest(limit, edge)
        except UnavailableError:
            raise unavailable("Redis did not answer in time: try again.") from None
        return _listing(listing, "before" if after is None else "after", limit)

    @app.get(
        "/messages/{message_id}",
        tags=["messages"],
        response_model=MessageModel,
        responses=PROBLEMS(404, 503),
        summary="Read a message",
    )
    async def show(message_id: str) -> Response:
        try:
            message = await guestbook.get(_known_id(message_id))
        except UnavailableError:
            raise unavailable("Redis did not answer in time: try again.") from None
        if message is None:
            raise _no_message(message_id)
        return Response(message.json(), media_type=body.JSON)

    @app.delete(
        "/messages/{message_id}",
        tags=["messages"],
        status_code=204,
        responses=PROBLEMS(401, 403, 404, 503),
        openapi_extra={"security": [{"admin": []}]},
        summary="Delete a message",
    )
    async def destroy(request: Request, message_id: str) -> Response:
        _authorize(guestbook, request)
        try:
            was_there = await guestbook.delete(_known_id(message_id))
        except UnavailableError as error:
            reason = str(error) or "Redis did not take the deletion in time"
            raise unavailable(f"{reason}: try again.") from None
        if not was_there:
            raise _no_message(message_id)
        return Response(status_code=204)


def _draft(posted: body.Posted) -> NewMessage:
    try:
        return NewMessage.parse(posted.text, posted.author)
    except InvalidMessageError as error:
        raise ProblemError(422, error.reason, field=error.field, code=error.code) from None


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _KEY_MAX or not all("!" <= c <= "~" for c in key):
        raise ProblemError(
            422, f"must be 1-{_KEY_MAX} visible ASCII characters", field="Idempotency-Key"
        )
    return key


def _wants_page(request: Request) -> bool:
    """A form gets the page again, unless its sender asks for JSON and not for HTML."""
    accept = request.headers.get("accept", "")
    return "text/html" in accept or "json" not in accept


def _page_with(page: Page, language: str, problem: ProblemError, posted: body.Posted) -> Response:
    typed = Typed(str(posted.text or ""), str(posted.author or ""))
    html = page.refused(language, problem, typed)
    headers = {**problem.headers, "Cache-Control": "no-store", "Content-Language": language}
    return Response(html, problem.status, headers, media_type="text/html")


def _listing(listing: Listing, direction: str, limit: int) -> Response:
    following: Any = "null"
    if listing.has_more:
        query = urlencode({"limit": limit, direction: str(listing.messages[-1].id)})
        following = f'"/messages?{query}"'
    content = b'{"messages":[%s],"next":%s}' % (
        b",".join(message.json() for message in listing.messages),
        following.encode(),
    )
    return Response(content, media_type=body.JSON)


def _known_id(value: str) -> EntryId:
    try:
        return EntryId.parse(value)
    except ValueError:
        raise _no_message(value) from None


def _no_message(value: str) -> ProblemError:
    return ProblemError(404, f"There is no message {value[:50]}: it was deleted, or never here.")


def _authorize(guestbook: Guestbook, request: Request) -> None:
    token = guestbook.settings.admin_token
    if token is None:
        raise ProblemError(403, "Nobody may delete here: GUESTBOOK_ADMIN_TOKEN is not set.")
    require_token(request, token)
