"""The routes of the pages and the feed."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from guestbook.core import UnavailableError
from guestbook.web.dependencies import Language, PageDep, PublicURL, parse_id
from guestbook.web.pages import feed as feeds
from guestbook.web.pages.i18n import prefers_page
from guestbook.web.pages.renderer import Page
from guestbook.web.schemas import problems

router = APIRouter()


async def index(request: Request) -> Response:
    """Return the page of the newest messages, or of those before one."""
    page: Page = request.app.state.page
    language = page.translations.language(request.scope)
    before = request.query_params.get("before")
    if before is None:
        return page.current(language, is_held="held" in request.query_params)
    return await page.older(language, parse_id("before", before))


@router.get("/wall", include_in_schema=False)
async def wall(page: PageDep, language: Language, public_url: PublicURL) -> Response:
    return page.wall(language, public_url)


@router.get("/moderate", include_in_schema=False)
async def moderate(page: PageDep, language: Language) -> Response:
    return page.moderate(language)


@router.get(
    "/feed.atom",
    tags=["messages"],
    response_class=Response,
    responses={
        200: {
            "description": "The newest messages as an Atom feed, RFC 4287",
            "content": {feeds.MEDIA_TYPE: {"schema": {"type": "string"}}},
        },
        **problems(503),
    },
    summary="Follow the guestbook in a feed reader",
)
async def feed(
    request: Request, page: PageDep, language: Language, public_url: PublicURL
) -> Response:
    if not page.log.is_loaded:
        raise UnavailableError("The messages have not been read from Redis yet: try again.")
    in_browser = prefers_page(request.headers.get("accept", ""))
    return feeds.current(page, language, public_url, in_browser=in_browser)
