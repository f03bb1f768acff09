"""The routes for machines: probes, the environment, metrics."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from fastapi import FastAPI, Request
from starlette.responses import Response

from guestbook import __version__
from guestbook.pod import Guestbook
from guestbook.telemetry import CONTENT_TYPE, Metrics
from guestbook.web.route import PlainRoute

_HEADERS = {"Cache-Control": "no-store"}
_SHOWN = ("HOSTNAME", "POD_NAME", "POD_IP", "POD_NAMESPACE", "NODE_NAME")
# What Kubernetes sets for every Service, e.g. REDIS_SERVICE_HOST or KUBERNETES_PORT_443_TCP_ADDR;
# the value is looked at too, because anybody may give a variable such a name.
_SERVICE = re.compile(r"[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_[A-Z_]+)?)")
_SERVICE_VALUE = re.compile(r"(tcp|udp|sctp|TCP|UDP|SCTP)|((tcp|udp|sctp)://)?[0-9a-fA-F.:\[\]]+")


def environment(variables: Mapping[str, str], name: str) -> dict[str, str]:
    """What may be shown of the environment: never a secret."""
    shown = {key: variables[key] for key in _SHOWN if key in variables}
    services = {
        key: value
        for key, value in sorted(variables.items())
        if _SERVICE.fullmatch(key) and _SERVICE_VALUE.fullmatch(value)
    }
    return {**shown, "HOSTNAME": name, "GUESTBOOK_VERSION": __version__, **services}


def install(app: FastAPI, guestbook: Guestbook, metrics: Metrics) -> None:
    """The routes `/healthz`, `/ready`, `/env` and `/metrics`."""

    async def healthz(_request: Request) -> Response:
        return _verdict("alive", guestbook.liveness_problems())

    app.router.add_api_route(
        "/healthz",
        healthz,
        methods=["GET"],
        route_class_override=PlainRoute,
        tags=["operations"],
        responses={503: {"description": "This process must be restarted"}},
        summary="Liveness: whether the process does its work",
    )

    async def ready(_request: Request) -> Response:
        return _verdict("ready", guestbook.readiness_problems())

    app.router.add_api_route(
        "/ready",
        ready,
        methods=["GET"],
        route_class_override=PlainRoute,
        tags=["operations"],
        responses={503: {"description": "This process should get no requests now"}},
        summary="Readiness: whether the process should get requests",
    )

    @app.get("/env", tags=["operations"], summary="Which process answers, and where it runs")
    async def env() -> Response:
        return _json(environment(os.environ, guestbook.name), 200)

    @app.get(
        "/metrics",
        tags=["operations"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        summary="Metrics for Prometheus",
    )
    async def exposition() -> Response:
        return Response(metrics.exposition(), 200, _HEADERS, media_type=CONTENT_TYPE)


def _verdict(word: str, reasons: list[str]) -> Response:
    if reasons:
        return _json({"status": f"not {word}", "reasons": reasons}, 503)
    return _json({"status": word}, 200)


def _json(value: object, status: int) -> Response:
    # One member a line, for grep.
    content = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return Response(content, status, _HEADERS, media_type="application/json")
