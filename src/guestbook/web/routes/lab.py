"""The route of the lab: break a pod on purpose. Imported only where the lab is switched on."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Depends

from guestbook.pod.lab import Action, Lab
from guestbook.web.dependencies import app_state, refuse_cross_site, refuse_if_match
from guestbook.web.schemas import Command, problems

router = APIRouter(
    tags=["lab"], dependencies=[Depends(refuse_cross_site), Depends(refuse_if_match)]
)

logger = structlog.get_logger(__name__)


@router.post(
    "/lab/{pod}/{action}",
    status_code=202,
    responses=problems(403, 404, 422, 429, 503),
    summary="Break a pod on purpose",
)
async def command(lab: Annotated[Lab, app_state("lab")], pod: str, action: Action) -> Command:
    await lab.send(pod, action)
    logger.warning("lab command queued", pod=pod, action=action)
    return Command(pod=pod, action=action)
