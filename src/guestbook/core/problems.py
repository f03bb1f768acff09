"""Errors as RFC 9457 problem details: what is wrong, where, and what to do about it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from http import HTTPStatus

PROBLEM_TYPE = "application/problem+json"


class ProblemError(Exception):
    """End a request with a problem. `field` names the part of the request at fault, if any.

    `code` is the reason in one word, for clients that translate it, and `numbers` those in it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        code: str = "invalid",
        numbers: Mapping[str, int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.code = code
        self.numbers = dict(numbers or {})
        self.headers = dict(headers or {})

    def json(self) -> bytes:
        """Return the body, of type `PROBLEM_TYPE`."""
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
        }
        if self.code != "invalid":
            problem["code"] = self.code
        if self.field:
            error = {"field": self.field, "reason": self.detail, "code": self.code}
            problem["errors"] = [error | ({"numbers": self.numbers} if self.numbers else {})]
        return json.dumps(problem, ensure_ascii=False).encode() + b"\n"


class UnavailableError(ProblemError):
    """A 503 whose `Retry-After` (in seconds) varies, so that clients spread out."""

    def __init__(
        self,
        detail: str = "Redis did not answer in time: try again.",
        *,
        soonest: int = 1,
        latest: int = 5,
        code: str = "invalid",
    ) -> None:
        wait = random.randint(soonest, latest)  # noqa: S311  # jitter
        super().__init__(503, detail, code=code, headers={"Retry-After": str(wait)})


def no_message(message_id: object) -> ProblemError:
    """Return the 404 of a message."""
    name = str(message_id)[:50]
    detail = f"There is no message {name}: it was deleted, or never existed."
    return ProblemError(404, detail, code="no_message")


def precondition_failed() -> ProblemError:
    """Return the answer to an If-Match that is false (RFC 9110, section 13.1.1)."""
    return ProblemError(412, "If-Match does not match the current version.")
