"""The application: the routes, wired to one guestbook."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from guestbook import __version__, events, legacy, messages, probes, problem, schema
from guestbook.guestbook import Guestbook
from guestbook.metrics import Metrics
from guestbook.middleware import HeadMiddleware, ObserveMiddleware
from guestbook.page import Page, assets
from guestbook.settings import Settings

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that a form's post would come from the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; its guestbook is `app.state.guestbook`."""
    guestbook = Guestbook(settings)
    metrics = Metrics(guestbook)
    page = Page(guestbook)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with guestbook.running():
            yield

    app = FastAPI(
        title="Guestbook",
        version=__version__,
        description="A live guestbook: messages in a Redis stream, pushed as server-sent events.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.guestbook = guestbook
    app.add_middleware(ObserveMiddleware, guestbook=guestbook, metrics=metrics)
    app.add_middleware(HeadMiddleware)
    problem.install(app)

    async def index(request: Request) -> Response:
        rendered = page.current()
        headers = {"ETag": rendered.etag, "Cache-Control": "no-cache"}
        known = request.headers.get("if-none-match", "")
        if known == "*" or rendered.etag in known:
            return Response(None, 304, headers)
        return Response(rendered.html, 200, headers, media_type="text/html")

    # The two that most requests are for come first.
    app.router.routes[:0] = [events.route(guestbook), Route("/", index)]
    messages.install(app, guestbook, page)
    probes.install(app, guestbook, metrics)
    if settings.legacy_api:
        legacy.install(app, guestbook)
    description = schema.describe(app)
    app.openapi = lambda: description  # type: ignore[method-assign]  # as FastAPI's manual has it
    app.mount("/static", StaticFiles(directory=assets("static")), name="static")
    return app
