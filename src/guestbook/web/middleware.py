"""What happens around every request: HEAD, and that it is observed."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guestbook.pod import Guestbook
from guestbook.telemetry import AccessLog

# A HEAD asks what a GET would answer. A stream has no end, and pushing is not asking.
_NO_HEAD = ("/events", "/rpush/")


class HeadMiddleware:
    """Answers HEAD as GET; that no body goes out is the server's part."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] == "HEAD"
            and not scope["path"].startswith(_NO_HEAD)
        ):
            asked = {**scope, "method": "GET"}
            await self._app(asked, receive, send)
            # Who observes it wants to know which route it has found.
            scope.update(asked, method="HEAD")
        else:
            await self._app(scope, receive, send)


class AccessLogMiddleware:
    """Observes each request; tells clients of a draining process to connect anew."""

    def __init__(self, app: ASGIApp, guestbook: Guestbook, observer: AccessLog) -> None:
        self._app = app
        self._guestbook = guestbook
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        observation = self._observer.begin(scope)
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], observation.header]
                if self._guestbook.fanout.is_draining:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            observation.done(status)
