"""The routes of messages: post, list, read, edit, delete."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import RedirectResponse

from guestbook.core import EntryId, NewMessage, ProblemError, no_message
from guestbook.pod import Guestbook, Listing, edit, poll, withdraw, within_request
from guestbook.web.body import FORM, JSON, Posted, json_body, read_posted
from guestbook.web.dependencies import (
    After,
    Before,
    ChangeableId,
    ClientAddress,
    GuestbookDep,
    IdempotencyKey,
    Language,
    MessageId,
    PageDep,
    get_author_key,
    query_id,
    refuse_cross_site,
)
from guestbook.web.pages.i18n import prefers_page
from guestbook.web.schemas import (
    ChangeList,
    EditIn,
    MessageForm,
    MessageIn,
    MessageList,
    MessageOut,
    body_of,
    problems,
)

Limit = Annotated[int, Query(ge=1, le=1000)]
CURSOR = "Guestbook-Cursor"
"""The header of a list with the id up to which its pod has read the stream."""

router = APIRouter(tags=["messages"])

_PAGE = {"content": {"text/html": {"schema": {"type": "string"}}}}


@router.post(
    "/messages",
    status_code=201,
    response_model=MessageOut,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        202: {"description": "The message waits for a moderator.", "model": MessageOut},
        303: {"description": "A form's message was stored: see the page."},
        **problems(410, 415),
        **{
            status: response | _PAGE
            for status, response in problems(403, 413, 422, 429, 503).items()
        },
    },
    openapi_extra=body_of({JSON: MessageIn, FORM: MessageForm}),
    summary="Post a message",
)
async def post_message(
    request: Request,
    guestbook: GuestbookDep,
    posted: Annotated[Posted, Depends(read_posted)],
    address: ClientAddress,
    key: IdempotencyKey,
) -> Response:
    message, _, is_held = await guestbook.post(posted.message, address=address, key=key)
    request.state.message_id = message.id
    if posted.is_form:
        return RedirectResponse("/?held" if is_held else "/", 303)
    if is_held:
        return Response(message.json(), 202, media_type=JSON)
    location = {"Location": f"/messages/{message.id}"}
    return Response(message.json(), 201, location, media_type=JSON)


@router.get(
    "/messages",
    responses=problems(422, 503),
    summary="List messages, newest first; with `after` oldest first",
)
async def list_messages(
    response: Response,
    guestbook: GuestbookDep,
    *,
    before: Before,
    after: After,
    replaced: Annotated[
        EntryId | None,
        query_id("replaced", "From `next`, after all messages were replaced"),
    ],
    limit: Limit = 50,
    changes: Annotated[bool, Query(description="With `after`: also edits and deletions")] = False,
) -> ChangeList | MessageList:
    if changes:
        if after is None or before is not None:
            raise ProblemError(422, "goes with `after`, and without `before`", field="changes")
        return await _changes(guestbook, after, limit, replaced)
    if guestbook.log.is_loaded:
        response.headers[CURSOR] = str(guestbook.log.last)
    if after is None:
        return page_of(await guestbook.newest(limit, before), "/messages", limit, "before")
    if before is None:
        return page_of(await guestbook.since(after, limit), "/messages", limit, "after")
    raise ProblemError(422, "goes without `before`: ask for one direction", field="after")


def page_of(listing: Listing, path: str, limit: int, direction: str) -> MessageList:
    """Return the answer with some messages, and the address of the next ones."""
    following = None
    if listing.has_more:
        query = urlencode({"limit": limit, direction: str(listing.messages[-1].id)})
        following = f"{path}?{query}"
    return MessageList(messages=[MessageOut.of(each) for each in listing.messages], next=following)


async def _changes(
    guestbook: Guestbook, after: EntryId, limit: int, replaced: EntryId | None
) -> ChangeList:
    found = await within_request(poll(guestbook, after, limit, replaced))
    query = {"limit": limit, "changes": "true", "after": str(found.cursor)}
    if found.replaced is not None:
        query["replaced"] = str(found.replaced)
    return ChangeList(
        messages=[MessageOut.of(each) for each in found.messages],
        next=f"/messages?{urlencode(query)}",
        edited=[MessageOut.of(each) for each in found.edited],
        deleted=[str(each) for each in found.deleted],
        more=found.has_more,
        reset=found.is_reset,
    )


@router.get(
    "/messages/{message_id}",
    response_model=MessageOut,
    responses={
        200: _PAGE,
        **{status: response | _PAGE for status, response in problems(404, 503).items()},
    },
    summary="Read a message; a browser gets the page that shows it",
)
async def read_message(
    request: Request,
    guestbook: GuestbookDep,
    page: PageDep,
    language: Language,
    entry_id: MessageId,
) -> Response:
    message = await guestbook.get(entry_id)
    if message is None:
        raise no_message(entry_id)
    if prefers_page(request.headers.get("accept", "")):
        return page.message(language, message)
    return Response(message.json(), headers={"Vary": "Accept"}, media_type=JSON)


@router.patch(
    "/messages/{message_id}",
    dependencies=[Depends(refuse_cross_site)],
    response_model=MessageOut,
    responses=problems(403, 404, 413, 415, 422, 429, 503),
    openapi_extra=body_of({JSON: EditIn}),
    summary="Edit an own message, within the first minutes",
)
async def edit_message(
    *,
    request: Request,
    guestbook: GuestbookDep,
    entry_id: ChangeableId,
    new: Annotated[EditIn, Depends(json_body(EditIn))],
    address: ClientAddress,
    key: IdempotencyKey,
) -> MessageOut:
    text = NewMessage.parse(new.text).text
    edited = await edit(
        guestbook, entry_id, text, key=key, address=address, has_left=request.is_disconnected
    )
    if edited is None:
        raise no_message(entry_id)
    return MessageOut.of(edited)


@router.delete(
    "/messages/{message_id}",
    status_code=204,
    responses=problems(401, 403, 404, 422, 503),
    summary="Delete a message; with its key an own one, within the first minutes",
)
async def delete_message(
    guestbook: GuestbookDep,
    # Checked before the id: without permission nothing is revealed about it.
    author_key: Annotated[str | None, Depends(get_author_key)],
    entry_id: ChangeableId,
) -> Response:
    if author_key is None:
        is_deleted = await guestbook.delete(entry_id)
    else:
        is_deleted = await withdraw(guestbook, entry_id, key=author_key)
    if not is_deleted:
        raise no_message(entry_id)
    return Response(status_code=204)
