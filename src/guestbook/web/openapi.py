"""FastAPI's OpenAPI description, with corrections."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from guestbook.core import PROBLEM_TYPE
from guestbook.web.schemas import BanIn, ControlIn, EditIn, MessageForm, MessageIn

_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of the application's routes."""
    description = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for operations in description["paths"].values():
        for operation in operations.values():
            _correct_errors(operation["responses"])
    schemas = description["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    # web/body.py reads these, without FastAPI.
    for model in (MessageIn, MessageForm, EditIn, ControlIn, BanIn):
        schema = schemas[model.__name__] = model.model_json_schema()
        for member in schema["properties"].values():
            # Some generators of clients demand a member that has a default.
            member.pop("default", None)
    return description


def _correct_errors(responses: dict[str, Any]) -> None:
    """Give problems their media type, and drop the 422 that FastAPI adds to every parameter."""
    for status, response in list(responses.items()):
        content = response.get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema == _PROBLEM:
            # Before the page, because generated clients take the first that they understand.
            problem = {PROBLEM_TYPE: content.pop("application/json")}
            response["content"] = problem | content
        elif schema == {"$ref": "#/components/schemas/HTTPValidationError"}:
            del responses[status]
