"""The routes of moderators: the messages that wait, and what is decided about them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from guestbook.core import ORIGIN
from guestbook.web.dependencies import (
    After,
    MessageId,
    ModeratorDep,
    check_condition,
    no_message,
    require_admin,
)
from guestbook.web.routes.messages import LIMIT_MAX
from guestbook.web.schemas import MessageList, MessageOut, problems

EVENTS = "/held/events"

router = APIRouter(
    tags=["moderation"], dependencies=[Depends(require_admin)], responses=problems(401, 403, 503)
)


@router.get("/held", responses=problems(422), summary="List messages that wait, oldest first")
async def list_held(
    moderator: ModeratorDep,
    after: After,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 50,
) -> MessageList:
    listing = await moderator.waiting(after or ORIGIN, limit)
    following = None
    if listing.has_more:
        following = f"/held?{urlencode({'limit': limit, 'after': str(listing.messages[-1].id)})}"
    return MessageList(messages=[MessageOut.of(each) for each in listing.messages], next=following)


@router.get(
    EVENTS,
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `held`, `ping`, `bye`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
    summary="Follow the messages that wait",
)
async def follow_held(moderator: ModeratorDep) -> StreamingResponse:
    return StreamingResponse(
        moderator.follow(await moderator.event()),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"},
    )


@router.post(
    "/held/{message_id}/approve",
    dependencies=[Depends(check_condition)],
    responses=problems(404),
    summary="Approve a message; again: the same answer",
)
async def approve(moderator: ModeratorDep, entry_id: MessageId) -> MessageOut:
    message = await moderator.approve(entry_id)
    if message is None:
        raise no_message(entry_id)
    return MessageOut.of(message)


@router.delete(
    "/held/{message_id}",
    dependencies=[Depends(check_condition)],
    status_code=204,
    responses=problems(404),
    summary="Refuse a message",
)
async def refuse(moderator: ModeratorDep, entry_id: MessageId) -> Response:
    if await moderator.decide(entry_id, "refuse") is None:
        raise no_message(entry_id)
    return Response(status_code=204)
