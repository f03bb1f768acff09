"""The moderators' routes for messages that wait: list, approve, refuse, follow."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from starlette.responses import StreamingResponse

from guestbook.core import ORIGIN, no_message
from guestbook.web.dependencies import (
    After,
    MessageId,
    ModeratorDep,
    refuse_if_match,
    require_admin,
)
from guestbook.web.routes.messages import Limit, page_of
from guestbook.web.schemas import MessageList, MessageOut, problems

EVENTS = "/held/events"

router = APIRouter(
    tags=["moderation"],
    dependencies=[Depends(require_admin), Depends(refuse_if_match)],
    responses=problems(401, 403, 503),
)


@router.get("/held", responses=problems(422), summary="List messages that wait, oldest first")
async def list_held(moderator: ModeratorDep, after: After, limit: Limit = 50) -> MessageList:
    return page_of(await moderator.waiting(after or ORIGIN, limit), "/held", limit, "after")


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
    responses=problems(404),
    summary="Approve a message; again: the same answer",
)
async def approve(moderator: ModeratorDep, entry_id: MessageId) -> MessageOut:
    message = await moderator.approve(entry_id)
    if message is None:
        raise no_message(entry_id)
    return MessageOut.of(message)


@router.delete(
    "/held/{message_id}", status_code=204, responses=problems(404), summary="Refuse a message"
)
async def refuse(moderator: ModeratorDep, entry_id: MessageId) -> Response:
    if await moderator.decide(entry_id, "refuse") is None:
        raise no_message(entry_id)
    return Response(status_code=204)
