"""Ids that clients send: in a query, a body, or the header Last-Event-ID."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from guestbook.core import EntryId, ProblemError

ID_SCHEMA: dict[str, Any] = {"pattern": r"^\d{1,20}(-\d{1,20})?$"}


def parse_cursor(field: str, value: str) -> EntryId:
    """Parse an id that a client sent; ProblemError 422 names the field."""
    try:
        return EntryId.parse(value)
    except ValueError as error:
        raise ProblemError(422, str(error), field=field) from None


def id_query(description: str) -> Any:
    """Return a query parameter that is an id."""
    return Query(description=description, json_schema_extra=ID_SCHEMA)


Before = Annotated[str | None, id_query("Only messages older than this id")]
After = Annotated[str | None, id_query("Only messages newer than this id")]
