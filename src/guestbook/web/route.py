"""Routes that FastAPI describes and does not run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from guestbook.core import ProblemError
from guestbook.web.problems import bug, problem_response

Endpoint = Callable[[Request], Awaitable[Response]]

logger = structlog.get_logger(__name__)


class PlainRoute(APIRoute):
    """For an endpoint that reads its request and makes its response by itself.

    FastAPI's own way to an endpoint costs more than all that the guestbook does in it; for routes
    that are asked often that counts.
    """

    def __init__(self, path: str, endpoint: Endpoint, **format_message: Any) -> None:
        super().__init__(path, endpoint, **format_message)
        self.app = Responder(endpoint)


class Responder:
    """An endpoint as an ASGI application."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class DirectMiddleware:
    """Leads to the routes without parameters past all layers that only the others need."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, Route) and type(route) is not APIRoute
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["type"] == "http" and self._routes.get((scope["method"], scope["path"]))
        if not route:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await route.app(scope, receive, send)
        except ProblemError as problem:
            await problem_response(problem)(scope, receive, send)
        except Exception:
            logger.exception("a request failed")
            await problem_response(bug())(scope, receive, send)
