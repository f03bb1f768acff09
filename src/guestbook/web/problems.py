"""Every error of the application as a problem (RFC 9457)."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from guestbook.core import PROBLEM_TYPE, ProblemError


def problem_response(problem: ProblemError) -> Response:
    """Return the response for a problem."""
    return Response(problem.json(), problem.status, problem.headers, media_type=PROBLEM_TYPE)


def bug() -> ProblemError:
    """What is not the client's fault, and should not be."""
    return ProblemError(500, "This is a bug of the guestbook; its log says more.")


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    @app.exception_handler(ProblemError)
    async def _problem(_request: Request, error: ProblemError) -> Response:
        return problem_response(error)

    @app.exception_handler(404)
    async def _nothing(_request: Request, _error: Exception) -> Response:
        return problem_response(ProblemError(404, "There is nothing at this address."))

    @app.exception_handler(405)
    async def _not_allowed(request: Request, _error: Exception) -> Response:
        allowed = ", ".join(sorted(_methods(request)))
        detail = f"This address does not take {request.method}, but {allowed}."
        return problem_response(ProblemError(405, detail, headers={"Allow": allowed}))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        return problem_response(
            ProblemError(error.status_code, error.detail, headers=error.headers)
        )

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        reason = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        field, code = str(first["loc"][-1]), str(first["type"])
        return problem_response(ProblemError(422, reason, field=field, code=code))

    @app.exception_handler(Exception)
    async def _bug(_request: Request, _error: Exception) -> Response:
        return problem_response(bug())


def _methods(request: Request) -> set[str]:
    """What the address takes, over all its routes (Starlette tells of the first alone)."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", set())
    # Below a mounted folder of files no route of the application matches.
    return methods or {"GET", "HEAD"}
