"""The moderators' routes for all pods: closing the guestbook, moderation, bans."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from guestbook.core import Control, EntryId, Network, ProblemError, parse_network
from guestbook.pod import Moderator
from guestbook.settings import Settings
from guestbook.web.body import JSON, json_body
from guestbook.web.dependencies import (
    ModeratorDep,
    SettingsDep,
    parse_id,
    refuse_if_match,
    require_admin,
)
from guestbook.web.schemas import (
    BanIn,
    BanList,
    BanOut,
    ControlIn,
    ControlOut,
    body_of,
    problems,
)

router = APIRouter(
    tags=["operations"],
    dependencies=[Depends(require_admin), Depends(refuse_if_match)],
    responses=problems(401, 403, 503),
)


@router.get("/control", summary="Whether posts are accepted, and held")
async def read_control(moderator: ModeratorDep, settings: SettingsDep) -> ControlOut:
    return _shown(await moderator.control(), settings)


@router.patch(
    "/control",
    responses=problems(413, 415, 422),
    openapi_extra=body_of({JSON: ControlIn}),
    summary="Close or open the guestbook, switch moderation",
)
async def change_control(
    moderator: ModeratorDep,
    settings: SettingsDep,
    wanted: Annotated[ControlIn, Depends(json_body(ControlIn))],
) -> ControlOut:
    return _shown(await moderator.set_control(wanted.model_dump(exclude_unset=True)), settings)


def _shown(control: Control, settings: Settings) -> ControlOut:
    return ControlOut(
        closed=control.closed,
        moderation=control.moderation,
        moderation_setting=settings.moderation,
    )


@router.get("/bans", summary="List the networks from which posts are refused")
async def list_bans(moderator: ModeratorDep) -> BanList:
    bans = (await moderator.control()).bans
    return BanList(
        bans=[
            BanOut(network=str(network), until=EntryId(until, 0).time)
            for network, until in sorted(bans.items(), key=lambda ban: ban[1])
        ]
    )


@router.post(
    "/bans",
    status_code=201,
    responses=problems(404, 413, 415, 422),
    openapi_extra=body_of({JSON: BanIn}),
    summary="Refuse posts from a network, or from the author of a message",
)
async def ban(
    moderator: ModeratorDep, wanted: Annotated[BanIn, Depends(json_body(BanIn))]
) -> BanOut:
    network = await _network(moderator, wanted)
    until = await moderator.ban(network, wanted.seconds)
    return BanOut(network=str(network), until=EntryId(until, 0).time)


@router.delete(
    "/bans/{network:path}", status_code=204, responses=problems(404, 422), summary="End a ban"
)
async def unban(
    moderator: ModeratorDep,
    network: Annotated[str, Path(json_schema_extra={"pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$"})],
) -> Response:
    if not await moderator.unban(_parse(network)):
        raise ProblemError(404, f"{_parse(network)} is not banned.")
    return Response(status_code=204)


async def _network(moderator: Moderator, wanted: BanIn) -> Network:
    if (wanted.network is None) == (wanted.message is None):
        raise ProblemError(422, "name either a network or a message", field="network")
    if wanted.message is None:
        return _parse(wanted.network or "")
    network = await moderator.author_of(parse_id("message", wanted.message))
    if network is None:
        raise ProblemError(
            404,
            "The address of this message's author is not known: it is only kept for 24 hours.",
            code="no_address",
        )
    return network


def _parse(network: str) -> Network:
    try:
        return parse_network(network)
    except ValueError as error:
        raise ProblemError(422, str(error), field="network") from None
