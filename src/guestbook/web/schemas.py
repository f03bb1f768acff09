"""The bodies of the HTTP API as pydantic models: FastAPI describes the API from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from guestbook.core import (
    AUTHOR_MAX,
    BAN_DAYS_MAX,
    CLOSED_MAX,
    SECONDS,
    TEXT_MAX,
    Message,
    Moderation,
    normalise,
)

_Text = Annotated[
    str, Field(description=f"At most {TEXT_MAX} characters", json_schema_extra={"minLength": 1})
]


class MessageIn(BaseModel):
    """A message to post."""

    # Only types are checked here: core.NewMessage normalises a text before it measures it.
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Good evening from Bern!", "author": "Ada"}]}
    )

    text: _Text
    author: Annotated[str | None, Field(description=f"At most {AUTHOR_MAX} characters")] = None


class MessageForm(MessageIn):
    """A message to post, as the page's form sends it."""


class EditIn(BaseModel):
    """The new text of a message."""

    text: _Text


class MessageOut(BaseModel):
    """A message as it is stored."""

    id: Annotated[str, BeforeValidator(str)]
    author: str | None
    text: str
    posted_at: str
    pod: str
    edited_at: Annotated[
        str | None, Field(description="Only where it was edited", exclude_if=lambda at: at is None)
    ] = None

    @classmethod
    def of(cls, message: Message) -> Self:
        """Convert a message of the guestbook."""
        return cls.model_validate(message, from_attributes=True)


class MessageList(BaseModel):
    """Some messages, and the address of those that follow."""

    messages: list[MessageOut]
    next: str | None


class ControlOut(BaseModel):
    """The decisions that apply to all pods."""

    closed: Annotated[
        str | None, Field(description="The text for visitors; null: the guestbook is open")
    ]
    moderation: Annotated[Moderation | None, Field(description="null: the setting decides")]
    moderation_setting: Annotated[Moderation, Field(description="GUESTBOOK_MODERATION")]


def _visible(text: str | None) -> str | None:
    if text is None:
        return None
    text = normalise(text)
    if not text:
        raise ValueError("is empty: write a text for visitors, or null to open")
    if len(text) > CLOSED_MAX:
        raise ValueError(f"is {len(text)} characters long: at most {CLOSED_MAX} are allowed")
    return text


class ControlIn(BaseModel):
    """New decisions; a missing member changes nothing."""

    closed: Annotated[
        str | None,
        Field(description=f"At most {CLOSED_MAX} characters for visitors; null: open"),
        AfterValidator(_visible),
    ] = None
    moderation: Annotated[Moderation | None, Field(description="null: the setting decides")] = None


class BanOut(BaseModel):
    """A network from which posts are refused."""

    network: str
    until: str


class BanList(BaseModel):
    """All bans, sorted by their end."""

    bans: list[BanOut]


class BanIn(BaseModel):
    """A network to ban, or the author of a message."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"network": "203.0.113.0/24", "seconds": 3600}]}
    )

    network: Annotated[str | None, Field(description="An address or a network")] = None
    message: Annotated[str | None, Field(description="The id of a message of the last 24 h")] = None
    seconds: Annotated[int, Field(ge=1, le=BAN_DAYS_MAX * SECONDS["d"], strict=True)]


class ChangeList(MessageList):
    """The changes after a cursor, and the address of the next ones."""

    next: str
    edited: Annotated[list[MessageOut], Field(description="Edited messages, with their new text")]
    deleted: Annotated[list[str], Field(description="Ids of messages that were deleted")]
    more: Annotated[bool, Field(description="Whether `next` already has more")]
    reset: Annotated[bool, Field(description="Drop all messages: these begin with the oldest")]


class Health(BaseModel):
    """The answer of a probe."""

    status: str
    reasons: Annotated[list[str], Field(description="Only where the probe fails")] = []


class Command(BaseModel):
    """An accepted command of the lab."""

    pod: str
    action: str


class FieldError(BaseModel):
    """The invalid part of a request."""

    field: str
    reason: str
    code: Annotated[str, Field(description="The reason in one word")]
    numbers: Annotated[dict[str, int], Field(description="The numbers in the reason, by name")] = {}


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str | None, Field(description="The reason in one word")] = None
    errors: list[FieldError] = []


_REASONS = {
    401: "No token, or a wrong one",
    403: "Not allowed: the guestbook is closed, the network banned, the message refused or another "
    "author's, too late, the post another site's, or no admin token configured",
    404: "There is none of that name: it was deleted, or never existed",
    410: "Its author took the message with this key back",
    413: "The body is too long",
    415: "The body is neither JSON nor a form",
    422: "Not a message, or a parameter that cannot be read; names the field",
    429: "Too many at a time: try again later",
    503: "Redis did not answer in time, or there is no room: try again later",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with these errors."""
    return {status: {"description": _REASONS[status], "model": Problem} for status in statuses}


def body_of(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads a model of each media type."""
    content = {
        media_type: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
        for media_type, model in models.items()
    }
    return {"requestBody": {"required": True, "content": content}}
