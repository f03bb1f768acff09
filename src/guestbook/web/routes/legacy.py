"""The original application's interface, for its clients and its page, on the same messages.

The key in a path may be any: there is one list.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import PlainTextResponse

from guestbook.core import ORIGIN, InvalidMessageError, NewMessage
from guestbook.pod import Guestbook, within_request
from guestbook.web.dependencies import (
    ClientAddress,
    GuestbookDep,
    IdempotencyKey,
    refuse_cross_site,
)
from guestbook.web.routes.probes import IndentedJSONResponse
from guestbook.web.schemas import problems

router = APIRouter(tags=["legacy"])


class _TextConvertor(StringConvertor):
    """A message in a path: it may have slashes and line ends."""

    regex = r"[\s\S]*"


register_url_convertor("text", _TextConvertor())


@router.get(
    "/lrange/{key}",
    response_model=list[str],
    responses=problems(503),
    summary="All texts, oldest first",
)
async def lrange(guestbook: GuestbookDep, key: str) -> Response:  # noqa: ARG001
    return await _texts(guestbook)


@router.get(
    "/rpush/{key}/{value:text}",
    dependencies=[Depends(refuse_cross_site)],
    response_model=list[str],
    responses=problems(403, 422, 429, 503),
    summary="Post a text; answers with all texts",
)
async def rpush(
    *,
    request: Request,
    guestbook: GuestbookDep,
    key: str,  # noqa: ARG001
    value: str,
    address: ClientAddress,
    idempotency_key: IdempotencyKey,
) -> Response:
    try:
        message = NewMessage.parse(value)
    except InvalidMessageError as error:
        raise InvalidMessageError("value", error.code, error.detail, **error.numbers) from None
    stored = await guestbook.post(message, address=address, key=idempotency_key)
    request.state.message_id = stored.message.id
    return await _texts(guestbook)


@router.get(
    "/info",
    response_class=PlainTextResponse,
    responses=problems(503),
    summary="Redis's own description of its state",
)
async def info(guestbook: GuestbookDep) -> str:
    return await within_request(guestbook.store.info())


async def _texts(guestbook: Guestbook) -> Response:
    listing = await guestbook.since(ORIGIN, guestbook.settings.max_messages)
    return IndentedJSONResponse([message.text for message in listing.messages])
