"""What the API's description says of bodies; nothing here runs in a request."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from guestbook.core import AUTHOR_MAX, PROBLEM_TYPE, TEXT_MAX
from guestbook.web import body


class MessageModel(BaseModel):
    """A message as it is stored."""

    id: str
    author: str | None
    text: str
    posted_at: str
    pod: str


ID_PATTERN = r"^\d{1,20}(-\d{1,20})?$"

_POSTED = {
    "type": "object",
    "required": ["text"],
    "examples": [{"text": "Good evening from Bern!", "author": "Ada"}],
    "properties": {
        "text": {"type": "string", "minLength": 1, "description": f"At most {TEXT_MAX} characters"},
        "author": {
            "type": ["string", "null"],
            "description": f"At most {AUTHOR_MAX} characters",
        },
    },
}

MESSAGE_BODY: dict[str, Any] = {
    "required": True,
    "content": {body.JSON: {"schema": _POSTED}, body.FORM: {"schema": _POSTED}},
}

_ID = {"type": "string", "pattern": ID_PATTERN}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    "description": "The same key gives the same message for 24 hours, stored once",
}

MESSAGES: dict[str, Any] = {
    "description": "Some messages, and the address of those that follow",
    "content": {
        body.JSON: {
            "schema": {
                "type": "object",
                "required": ["messages", "next"],
                "properties": {
                    "messages": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/MessageModel"},
                    },
                    "next": {"type": ["string", "null"]},
                },
            }
        }
    },
}

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "reason", "code"],
                "properties": {
                    "field": {"type": "string"},
                    "reason": {"type": "string"},
                    "code": {"type": "string", "description": "The reason in a word"},
                },
            },
        },
    },
}

_WHY = {
    401: "No token, or a wrong one",
    403: "Not allowed: another site's post, or no admin token is configured",
    404: "There is none of that name: it is gone, or never was",
    413: "The body is too long",
    415: "The body is neither JSON nor a form",
    422: "Not a message, or a parameter that cannot be read; names the field",
    429: "Too many at a time: try again later",
    503: "Redis did not answer in time, or there is no room: try again later",
}


def PROBLEMS(*statuses: int) -> dict[int | str, dict[str, Any]]:  # noqa: N802  # reads as a table
    """The descriptions of error answers."""
    content: dict[str, Any] = {PROBLEM_TYPE: {"schema": _PROBLEM}}
    return {status: {"description": _WHY[status], "content": content} for status in statuses}


def PROBLEMS_OR_PAGE(*statuses: int) -> dict[int | str, dict[str, Any]]:  # noqa: N802
    """As PROBLEMS, where a form gets the page again."""
    format_message = PROBLEMS(*statuses)
    for answer in format_message.values():
        answer["content"] = {**answer["content"], "text/html": {"schema": {"type": "string"}}}
    return format_message


def _events() -> dict[str, Any]:
    """What FastAPI does not know: the stream is served without it."""
    last_event_id = {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": _ID,
        "description": "As `after`, and before it: a browser sends it when it reconnects",
    }
    after = {
        "name": "after",
        "in": "query",
        "schema": _ID,
        "description": "Go on after this id (unset: from now on)",
    }
    stream = {
        "description": "Server-sent events: messages without a name, and `deleted`, `pods`, "
        "`ping`, `reset`, `bye`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    problems = {str(status): answer for status, answer in PROBLEMS(422, 503).items()}
    return {
        "get": {
            "tags": ["events"],
            "summary": "Follow the guestbook",
            "operationId": "events",
            "parameters": [after, last_event_id],
            "responses": {"200": stream, **problems},
        }
    }


def _feed() -> dict[str, Any]:
    feed = {
        "description": "The newest messages as an Atom feed, RFC 4287",
        "content": {"application/atom+xml": {"schema": {"type": "string"}}},
    }
    problems = {str(status): answer for status, answer in PROBLEMS(503).items()}
    return {
        "get": {
            "tags": ["messages"],
            "summary": "Follow the guestbook in a feed reader",
            "operationId": "feed",
            "responses": {"200": feed, **problems},
        }
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The description as FastAPI makes it, less the error answers that only FastAPI would give."""
    description = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    description["paths"]["/events"] = _events()
    description["paths"]["/feed.atom"] = _feed()
    components = description["components"]
    components["securitySchemes"] = {"admin": {"type": "http", "scheme": "bearer"}}
    for operations in description["paths"].values():
        for operation in operations.values():
            _drop_invented_answer(operation["responses"])
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    return description


def _drop_invented_answer(responses: dict[str, Any]) -> None:
    if body.JSON in responses.get("422", {}).get("content", {}):
        del responses["422"]
