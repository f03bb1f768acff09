"""The application: the routes, wired to one guestbook."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.types import ASGIApp

from guestbook import __version__
from guestbook.pod import GuestbookCollector
from guestbook.pod.lifespan import build
from guestbook.settings import Settings
from guestbook.telemetry import AccessLog, Metrics
from guestbook.web import problems as problem
from guestbook.web import schemas as schema
from guestbook.web.middleware import AccessLogMiddleware, HeadMiddleware
from guestbook.web.pages import static as assets
from guestbook.web.pages.renderer import Page
from guestbook.web.pages.translations import Translations
from guestbook.web.route import DirectMiddleware
from guestbook.web.routes import events, legacy, messages, pages, probes

if TYPE_CHECKING:
    from guestbook.pod.lab import Lab
    from guestbook.telemetry.tracing import Tracing


def create_app(settings: Settings, tracing: Tracing | None = None) -> FastAPI:
    """The ASGI application; its guestbook is `app.state.guestbook`."""
    metrics = Metrics()
    guestbook, running = build(
        settings,
        observe_lag=metrics.observe_lag,
        observe_command=metrics.observe_command,
        tracing=tracing,
    )
    metrics.register(GuestbookCollector(guestbook))
    static = assets.Assets(assets.folder("static"))
    page = Page(guestbook, static, Translations(assets.folder("templates") / "words.toml"))
    lab: Lab | None = None

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with running, lab.running() if lab else contextlib.nullcontext():
            yield
        if tracing is not None:
            await tracing.close()

    class App(FastAPI):
        def build_middleware_stack(self) -> ASGIApp:
            others = super().build_middleware_stack()
            heads = HeadMiddleware(DirectMiddleware(others, self.routes))
            return AccessLogMiddleware(heads, guestbook, AccessLog(), metrics, tracing)

    app = App(
        title="Guestbook",
        version=__version__,
        description="A live guestbook: messages in a Redis stream, pushed as server-sent events.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Requests that FastAPI does not see are to be in the traces too: tracing.py makes them.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.guestbook = guestbook
    problem.install(app)

    pages.install(app, guestbook, page)
    app.router.routes.append(events.route())
    messages.install(app, guestbook, page)
    probes.install(app, guestbook, metrics)
    if settings.legacy_api:
        legacy.install(app, guestbook)
    if settings.lab:
        from guestbook.pod import lab as laboratory  # noqa: PLC0415  # off means: no code path

        lab = laboratory.install(app, guestbook)
    description = schema.describe(app)
    app.openapi = lambda: description  # type: ignore[method-assign]  # as FastAPI's manual has it
    app.mount(assets.URL, static, name="static")
    return app
