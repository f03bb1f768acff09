"""The application: the routes, and the guestbook that they use."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI

from guestbook import __version__
from guestbook.pod import GuestbookCollector, Moderator, open_guestbook, own_name
from guestbook.settings import Settings, SettingsError, are_traces_wanted
from guestbook.telemetry import Metrics
from guestbook.web.csrf import EXPOSED_HEADERS, CrossSiteCheck
from guestbook.web.dependencies import require_admin
from guestbook.web.middleware import (
    ProblemCORSMiddleware,
    RequestMiddleware,
    RoutingMiddleware,
)
from guestbook.web.openapi import describe
from guestbook.web.pages import static as assets
from guestbook.web.pages.i18n import Translations
from guestbook.web.pages.renderer import Page
from guestbook.web.problems import EXCEPTION_HANDLERS
from guestbook.web.routes import control, events, legacy, messages, moderation, pages, probes
from guestbook.web.schemas import problems
from guestbook.web.signals import drain_on_signal

if TYPE_CHECKING:
    from guestbook.telemetry.tracing import Tracing


def create_app(settings: Settings, *, drains_on_signal: bool = False) -> FastAPI:
    """Create the application. Its lifespan opens the guestbook, as `app.state.guestbook`.

    `drains_on_signal` is for servers that do not end the streams before they stop. Raises
    SettingsError for wrong OTEL_* variables.
    """
    metrics = Metrics()
    tracing = _tracing()
    static = assets.Assets(assets.folder("static"))
    translations = Translations(assets.folder("templates") / "words.toml")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if tracing is not None:
                stack.push_async_callback(tracing.close)
            guestbook = await stack.enter_async_context(
                open_guestbook(
                    settings,
                    observe_lag=metrics.lag.observe,
                    observe_command=metrics.observe_command,
                    tracing=tracing,
                )
            )
            metrics.registry.register(GuestbookCollector(guestbook))
            app.state.guestbook = guestbook
            app.state.moderator = Moderator(guestbook)
            app.state.page = Page(guestbook, static, translations)
            if settings.lab:
                from guestbook.pod.lab import open_lab  # noqa: PLC0415  # off means: no code path

                app.state.lab = await stack.enter_async_context(open_lab(guestbook))
            if drains_on_signal:
                stack.enter_context(drain_on_signal(guestbook))
            yield

    app = FastAPI(
        title="Guestbook",
        version=__version__,
        description="A live guestbook: messages in a Redis stream, pushed as server-sent events.",
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        # Generated clients name their functions after the operations.
        generate_unique_id_function=attrgetter("name"),
        # These pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI would trace a detached stream as a failure: the middleware makes the spans.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.is_cross_site = CrossSiteCheck(settings.public_url, settings.allow_origins)

    # Requests pass through the last one first.
    app.add_middleware(RoutingMiddleware)
    if settings.allow_origins:
        app.add_middleware(
            ProblemCORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
                "X-Request-ID",
            ],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestMiddleware, metrics=metrics, tracing=tracing)

    # The page is cached and requested the most: FastAPI's handling would double its cost.
    app.add_route("/", pages.index, methods=["GET"], include_in_schema=False)
    app.include_router(messages.router)
    app.include_router(pages.router)
    app.include_router(moderation.router)
    app.include_router(control.router)
    app.include_router(probes.router)
    app.include_router(events.router)
    if settings.legacy_api:
        app.include_router(legacy.router)
    if settings.lab:
        from guestbook.web.routes import lab  # noqa: PLC0415  # off means: no code path

        guarded: dict[str, Any] = {
            "dependencies": [Depends(require_admin)],
            "responses": problems(401),
        }
        app.include_router(lab.router, **(guarded if settings.admin_token else {}))
    app.mount(assets.URL, static, name="static")
    app.openapi = functools.cache(lambda: describe(app))  # type: ignore[method-assign]  # as FastAPI documents it
    return app


def _tracing() -> Tracing | None:
    """Return what makes traces if the variables ask for them; else import nothing of it."""
    if not are_traces_wanted(os.environ):
        return None
    try:
        from guestbook.telemetry.tracing import Tracing  # noqa: PLC0415
    except ImportError:
        raise SettingsError(
            "the OTEL_* variables ask for traces, which need the extra otel: "
            "pip install 'live-guestbook[otel]', or set OTEL_SDK_DISABLED=true"
        ) from None
    return Tracing(os.environ, own_name())
