"""The routes for operators: probes, the environment, metrics."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from guestbook import __version__
from guestbook.telemetry import CONTENT_TYPE
from guestbook.web.dependencies import GuestbookDep, MetricsDep
from guestbook.web.schemas import Health

router = APIRouter(tags=["operations"])

_SHOWN = ("HOSTNAME", "POD_NAME", "POD_IP", "POD_NAMESPACE", "NODE_NAME")
# Kubernetes sets these for every Service, e.g. REDIS_SERVICE_HOST or KUBERNETES_PORT_443_TCP_ADDR.
# The value is checked too, because a secret may stand in a variable of such a name.
_SERVICE = re.compile(r"[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_[A-Z_]+)?)")
_SERVICE_VALUE = re.compile(r"(tcp|udp|sctp|TCP|UDP|SCTP)|((tcp|udp|sctp)://)?[0-9a-fA-F.:\[\]]+")


class IndentedJSONResponse(JSONResponse):
    """JSON with one member a line, for people and for grep."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def environment(variables: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the variables that may be shown: never a secret."""
    shown = {key: variables[key] for key in _SHOWN if key in variables}
    services = {
        key: value
        for key, value in sorted(variables.items())
        if _SERVICE.fullmatch(key) and _SERVICE_VALUE.fullmatch(value)
    }
    return {**shown, "HOSTNAME": name, "GUESTBOOK_VERSION": __version__, **services}


@router.get(
    "/healthz",
    response_model=Health,
    responses={503: {"description": "This process must be restarted", "model": Health}},
    summary="Liveness: whether the process does its work",
)
async def healthz(guestbook: GuestbookDep, pod: str | None = None) -> Response:
    """With `pod`: whether this pod receives that pod's heartbeats."""
    if pod is None:
        return _health("alive", guestbook.liveness_problems())
    names = {record["name"] for record in guestbook.presence.records().values()}
    return _health("alive", [] if pod in names else ["the pod sends no heartbeats"])


@router.get(
    "/ready",
    response_model=Health,
    responses={503: {"description": "This process should get no requests now", "model": Health}},
    summary="Readiness: whether the process should get requests",
)
async def ready(guestbook: GuestbookDep) -> Response:
    return _health("ready", guestbook.probe_readiness())


@router.get(
    "/env",
    response_model=dict[str, str],
    summary="Which process answers, and where it runs",
)
async def env(guestbook: GuestbookDep) -> Response:
    return IndentedJSONResponse(environment(os.environ, guestbook.name))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Metrics for Prometheus",
)
async def exposition(metrics: MetricsDep) -> Response:
    return Response(metrics.exposition(), media_type=CONTENT_TYPE)


def _health(state: str, problems: list[str]) -> Response:
    if problems:
        content = {"status": f"not {state}", "reasons": problems}
        return IndentedJSONResponse(content, 503)
    return IndentedJSONResponse({"status": state})
