"""The routes of the pages and the feed."""

from __future__ import annotations

from fastapi import APIRouter, Response

from guestbook.core import unavailable
from guestbook.web.dependencies import (
    Before,
    FeedDep,
    GuestbookDep,
    Language,
    PageDep,
    PublicURL,
)
from guestbook.web.pages.feed import MEDIA_TYPE
from guestbook.web.schemas import problems

router = APIRouter()


@router.get("/", include_in_schema=False)
async def index(page: PageDep, language: Language, before: Before) -> Response:
    if before is None:
        return page.current(language)
    return await page.older(language, before)


@router.get("/wall", include_in_schema=False)
async def wall(page: PageDep, language: Language, public_url: PublicURL) -> Response:
    return page.wall(language, public_url)


@router.get(
    "/feed.atom",
    tags=["messages"],
    response_class=Response,
    responses={
        200: {
            "description": "The newest messages as an Atom feed, RFC 4287",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
        },
        **problems(503),
    },
    summary="Follow the guestbook in a feed reader",
)
async def feed(
    guestbook: GuestbookDep, feed: FeedDep, language: Language, public_url: PublicURL
) -> Response:
    if not guestbook.log.is_loaded:
        raise unavailable("The messages have not been read from Redis yet: try again.")
    return feed.current(language, public_url)
