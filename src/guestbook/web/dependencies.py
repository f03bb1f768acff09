"""The dependencies of the routes; each has a type by which a route asks for it."""

from __future__ import annotations

import hmac
import re
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from guestbook.core import EntryId, ProblemError, no_message, precondition_failed
from guestbook.pod import Guestbook, Moderator, exists
from guestbook.settings import Settings
from guestbook.telemetry import Metrics
from guestbook.web.csrf import CrossSiteCheck
from guestbook.web.pages.renderer import Page
from guestbook.web.public_url import public_address

ID_SCHEMA: dict[str, Any] = {"pattern": r"^\d{1,20}(-\d{1,20})?$"}
_KEY = re.compile(r"[!-~]{1,128}")


# The parts of the application


def app_state(name: str) -> Any:
    """Return the dependency that is `app.state.NAME`."""

    async def get(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(get)


GuestbookDep = Annotated[Guestbook, app_state("guestbook")]
ModeratorDep = Annotated[Moderator, app_state("moderator")]
SettingsDep = Annotated[Settings, app_state("settings")]
MetricsDep = Annotated[Metrics, app_state("metrics")]
PageDep = Annotated[Page, app_state("page")]


# The parts of a request


async def get_client_address(request: Request) -> str:
    """Return the address of the client, or "" for a Unix socket."""
    return request.client.host if request.client else ""


async def get_language(request: Request) -> str:
    """Return the language in which to answer."""
    page: Page = request.app.state.page
    return page.translations.language(request.scope)


async def get_public_url(request: Request) -> str:
    """Return the public address of the guestbook."""
    settings: Settings = request.app.state.settings
    return public_address(request.scope, settings.public_url)


async def get_idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="A random key, different for each message: for 24 hours a post with it is "
            "stored once, and it proves that you are the author",
            json_schema_extra={"pattern": f"^{_KEY.pattern}$"},
        ),
    ] = None,
) -> str | None:
    """Return the key that a message is posted with; ProblemError 422 for an unusable one."""
    # FastAPI passes the first one.
    keys = request.headers.getlist("Idempotency-Key")
    if keys and (len(keys) > 1 or not _KEY.fullmatch(keys[0])):
        raise ProblemError(
            422, "must be one key of 1-128 visible ASCII characters", field="Idempotency-Key"
        )
    return idempotency_key


def parse_id(field: str, value: str) -> EntryId:
    """Parse an id that a client sent; ProblemError 422 names the field."""
    try:
        return EntryId.parse(value)
    except ValueError as error:
        raise ProblemError(422, str(error), field=field) from None


def query_id(name: str, description: str) -> Any:
    """Return the dependency that is the id in a query, or None without one."""

    async def get(
        value: str | None = Query(
            None, alias=name, description=description, json_schema_extra=ID_SCHEMA
        ),
    ) -> EntryId | None:
        return None if value is None else parse_id(name, value)

    return Depends(get)


async def get_message_id(message_id: str) -> EntryId:
    """Return the id in the path; what is no id names no message."""
    try:
        return EntryId.parse(message_id)
    except ValueError:
        raise no_message(message_id) from None


async def refuse_if_match(request: Request) -> None:
    """Raise ProblemError 412 for an If-Match that names an ETag.

    Nothing that can be changed has an ETag, so that none can match.
    """
    if request.method != "GET" and any(
        value != "*" for value in request.headers.getlist("if-match")
    ):
        raise precondition_failed()


async def get_changeable_id(
    request: Request, guestbook: GuestbookDep, entry_id: Annotated[EntryId, Depends(get_message_id)]
) -> EntryId:
    """Return the id of a message to change; where there is none, the answer is 404 and not 412."""
    if "if-match" in request.headers and await exists(guestbook, entry_id):
        await refuse_if_match(request)
    return entry_id


Before = Annotated[EntryId | None, query_id("before", "Only messages older than this id")]
After = Annotated[EntryId | None, query_id("after", "Only messages newer than this id")]
ClientAddress = Annotated[str, Depends(get_client_address)]
Language = Annotated[str, Depends(get_language)]
PublicURL = Annotated[str, Depends(get_public_url)]
IdempotencyKey = Annotated[str | None, Depends(get_idempotency_key)]
MessageId = Annotated[EntryId, Depends(get_message_id)]
ChangeableId = Annotated[EntryId, Depends(get_changeable_id)]


# Permissions


async def refuse_cross_site(request: Request) -> None:
    """Raise ProblemError 403 for a request from another site's page."""
    is_cross_site: CrossSiteCheck = request.app.state.is_cross_site
    if is_cross_site(request.scope):
        raise ProblemError(403, "Another site may not post here in your name.")


_bearer = HTTPBearer(scheme_name="admin", auto_error=False)


_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def require_admin(settings: SettingsDep, credentials: _Credentials) -> None:
    """Raise ProblemError unless the request has the admin token (RFC 6750)."""
    if settings.admin_token is None:
        raise ProblemError(403, "GUESTBOOK_ADMIN_TOKEN is not set.")
    token = settings.admin_token.get_secret_value().encode()
    # Starlette decodes headers as Latin-1: encoding again returns the bytes that were sent.
    sent = credentials.credentials.encode("latin-1") if credentials else b""
    if not hmac.compare_digest(sent, token):
        raise ProblemError(
            401,
            "This needs the header Authorization: Bearer with the admin token.",
            headers={"WWW-Authenticate": 'Bearer realm="guestbook"'},
        )


async def get_author_key(
    settings: SettingsDep, credentials: _Credentials, key: IdempotencyKey
) -> str | None:
    """Return the author's key; None for a moderator. Raises ProblemError for others."""
    if key is not None and credentials is None:
        return key
    await require_admin(settings, credentials)
    return None
