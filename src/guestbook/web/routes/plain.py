"""Routes of Starlette's own, for what is requested most.

FastAPI's handling of a request would be half of what they cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.routing import Route


def plain_route(path: str, endpoint: Callable[..., Any]) -> Route:
    """Return a route for GET that FastAPI does not describe."""
    route = Route(path, endpoint, include_in_schema=False)
    # Starlette adds HEAD, which is the middleware's business.
    route.methods = {"GET"}
    return route
