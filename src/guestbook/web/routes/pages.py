"""The routes of the pages and the feed: what lies ready, by language and address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.datastructures import QueryParams
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from guestbook.core import unavailable
from guestbook.pod import Guestbook, UnavailableError
from guestbook.web.pages.cache import CachedResponse
from guestbook.web.pages.feed import Feed
from guestbook.web.pages.renderer import Page
from guestbook.web.public_url import public_address
from guestbook.web.routes.messages import parse_cursor


class Resource:
    """Answers with the response that `find` gives for a request's scope.

    A plain ASGI application: what FastAPI does around an answer costs more than the answer.
    """

    def __init__(self, find: Callable[[Scope], Awaitable[CachedResponse]]) -> None:
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._find(scope)
        await response(scope, receive, send)


def install(app: FastAPI, guestbook: Guestbook, page: Page) -> None:
    """The routes `/`, `/wall` and `/feed.atom`."""
    translations = page.translations
    feed = Feed(guestbook, translations)

    async def index(scope: Scope) -> CachedResponse:
        language = translations.language(scope)
        before = QueryParams(scope["query_string"]).get("before") if scope["query_string"] else None
        if before is None:
            return page.current(language)
        try:
            return await page.older(language, parse_cursor("before", before))
        except UnavailableError:
            raise unavailable("Redis did not answer in time: try again.") from None

    async def wall(scope: Scope) -> CachedResponse:
        return page.wall(translations.language(scope), public_address(scope))

    async def atom(scope: Scope) -> CachedResponse:
        if not guestbook.log.is_loaded:
            raise unavailable("The messages have not been read from Redis yet: try again.")
        return feed.current(translations.language(scope), public_address(scope))

    app.router.routes[:0] = [
        Route("/", Resource(index), methods=["GET"]),
        Route("/wall", Resource(wall), methods=["GET"]),
        Route("/feed.atom", Resource(atom), methods=["GET"]),
    ]
