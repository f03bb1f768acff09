"""The routes of the pages and the feed: what lies ready, by language and address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.datastructures import QueryParams
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from guestbook.address import public_address
from guestbook.feed import Feed
from guestbook.guestbook import Guestbook, UnavailableError
from guestbook.messages import parse_cursor
from guestbook.page import Page
from guestbook.problem import unavailable
from guestbook.representation import Representation


class Resource:
    """Answers with the representation that `find` gives for a request's scope.

    A plain ASGI application: what FastAPI does around an answer costs more than the answer.
    """

    def __init__(self, find: Callable[[Scope], Awaitable[Representation]]) -> None:
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        representation = await self._find(scope)
        await representation(scope, receive, send)


def install(app: FastAPI, guestbook: Guestbook, page: Page) -> None:
    """The routes `/`, `/wall` and `/feed.atom`."""
    catalogue = page.catalogue
    feed = Feed(guestbook, catalogue)

    async def index(scope: Scope) -> Representation:
        language = catalogue.language(scope)
        before = QueryParams(scope["query_string"]).get("before") if scope["query_string"] else None
        if before is None:
            return page.current(language)
        try:
            return await page.older(language, parse_cursor("before", before))
        except UnavailableError:
            raise unavailable("Redis did not answer in time: try again.") from None

    async def wall(scope: Scope) -> Representation:
        return page.wall(catalogue.language(scope), public_address(scope))

    async def atom(scope: Scope) -> Representation:
        if not guestbook.log.is_loaded:
            raise unavailable("The messages have not been read from Redis yet: try again.")
        return feed.current(catalogue.language(scope), public_address(scope))

    app.router.routes[:0] = [
        Route("/", Resource(index), methods=["GET"]),
        Route("/wall", Resource(wall), methods=["GET"]),
        Route("/feed.atom", Resource(atom), methods=["GET"]),
    ]
