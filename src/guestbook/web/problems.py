"""Errors as RFC 9457 problem details: what is wrong, where, and what to do."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """Ends a request with a problem; `field` names the part of the request at fault, if one is.

    `code` says in a word what is wrong with it, for a client that speaks another language.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        code: str = "invalid",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.code = code
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The problem as JSON."""
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": f"{self.field}: {self.detail}" if self.field else self.detail,
        }
        if self.field:
            problem["errors"] = [{"field": self.field, "reason": self.detail, "code": self.code}]
        body = json.dumps(problem, ensure_ascii=False) + "\n"
        return Response(body, self.status, self.headers, media_type=MEDIA_TYPE)


def unavailable(detail: str, *, soonest: int = 1, latest: int = 5) -> ProblemError:
    """A 503 whose `Retry-After` differs, so that clients do not come back as one."""
    wait = random.randint(soonest, latest)  # noqa: S311  # jitter
    return ProblemError(503, detail, headers={"Retry-After": str(wait)})


def bug() -> ProblemError:
    """What is not the client's fault, and should not be."""
    return ProblemError(500, "This is a bug of the guestbook; its log says more.")


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    @app.exception_handler(ProblemError)
    async def _problem(_request: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(404)
    async def _nothing(_request: Request, _error: Exception) -> Response:
        return ProblemError(404, "There is nothing at this address.").response()

    @app.exception_handler(405)
    async def _not_allowed(request: Request, _error: Exception) -> Response:
        allowed = ", ".join(sorted(_methods(request)))
        detail = f"This address does not take {request.method}, but {allowed}."
        return ProblemError(405, detail, headers={"Allow": allowed}).response()

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        return ProblemError(error.status_code, error.detail, headers=error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        reason = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        field, code = str(first["loc"][-1]), str(first["type"])
        return ProblemError(422, reason, field=field, code=code).response()

    @app.exception_handler(Exception)
    async def _bug(_request: Request, _error: Exception) -> Response:
        return bug().response()


def _methods(request: Request) -> set[str]:
    """What the address takes, over all its routes (Starlette tells of the first alone)."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", set())
    # Below a mounted folder of files no route of the application matches.
    return methods or {"GET", "HEAD"}
