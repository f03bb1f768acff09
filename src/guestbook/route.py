"""A route that FastAPI describes and does not run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response


class PlainRoute(APIRoute):
    """For an endpoint that reads its request and makes its response by itself.

    FastAPI's own way to an endpoint costs more than all that the guestbook does in it; for routes
    that are asked often that counts.
    """

    def __init__(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **described: Any
    ) -> None:
        super().__init__(path, endpoint, **described)
        self.app = request_response(endpoint)
