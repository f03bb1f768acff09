"""The original application's interface, for its clients and its page, on the same messages."""

from __future__ import annotations

import json

from fastapi import FastAPI, Request
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import PlainTextResponse, Response

from guestbook.core import ORIGIN, InvalidMessageError, NewMessage, ProblemError, unavailable
from guestbook.pod import Guestbook, UnavailableError
from guestbook.storage import REDIS_ERRORS
from guestbook.web.routes.messages import post, refuse_cross_site
from guestbook.web.schemas import PROBLEMS


class _TextConvertor(StringConvertor):
    """A message in a path: it may have slashes and line ends."""

    regex = r"[\s\S]*"


register_url_convertor("text", _TextConvertor())


def install(app: FastAPI, guestbook: Guestbook) -> None:
    """The routes `/lrange`, `/rpush` and `/info`. The key may be any: there is one list."""

    async def texts() -> Response:
        try:
            listing = await guestbook.since(ORIGIN, guestbook.settings.max_messages)
        except UnavailableError:
            raise _away() from None
        said = [message.text for message in listing.messages]
        return Response(
            json.dumps(said, ensure_ascii=False, indent=2), media_type="application/json"
        )

    @app.get(
        "/lrange/{key}", tags=["legacy"], responses=PROBLEMS(503), summary="All texts, oldest first"
    )
    async def lrange(key: str) -> Response:  # noqa: ARG001
        return await texts()

    @app.get(
        "/rpush/{key}/{value:text}",
        tags=["legacy"],
        responses=PROBLEMS(403, 422, 429, 503),
        summary="Post a text; answers with all texts",
    )
    async def rpush(request: Request, key: str, value: str) -> Response:  # noqa: ARG001
        refuse_cross_site(request)
        try:
            draft = NewMessage.parse(value)
        except InvalidMessageError as error:
            raise ProblemError(422, error.reason, field="value", code=error.code) from None
        await post(guestbook, request, draft)
        return await texts()

    @app.get(
        "/info",
        tags=["legacy"],
        response_class=PlainTextResponse,
        responses=PROBLEMS(503),
        summary="What Redis tells of itself",
    )
    async def info() -> Response:
        try:
            return PlainTextResponse(await guestbook.store.info())
        except REDIS_ERRORS:
            raise _away() from None


def _away() -> ProblemError:
    return unavailable("Redis did not answer in time: try again.")
