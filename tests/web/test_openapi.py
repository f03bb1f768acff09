"""The OpenAPI description is valid and true, and nothing that it allows breaks the server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis

from guestbook.settings import Settings
from guestbook.web.app import create_app
from tests.conftest import Serve
from tests.support.servers import Server

TOKEN = "let-me"

# Without the checks that demand that every valid post succeeds: a used Idempotency-Key returns the
# earlier message, which may be deleted, and the schema allows a text of spaces.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    """A server with all optional routes."""
    return await serve_shared(
        GUESTBOOK_LEGACY_API="true", GUESTBOOK_LAB="true", GUESTBOOK_ADMIN_TOKEN=TOKEN
    )


@pytest.fixture(scope="module")
async def description(api: httpx.AsyncClient) -> dict[str, Any]:
    """`/openapi.json`."""
    answer = await api.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    description: dict[str, Any] = answer.json()
    return description


def _everything(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for member in value.values():
            yield from _everything(member)
    elif isinstance(value, list):
        for member in value:
            yield from _everything(member)


def test_description_is_valid(description: dict[str, Any]) -> None:
    """It is OpenAPI 3.1 by the official schema, and every reference resolves."""
    assert description["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(description).validate()
    references = {part["$ref"] for part in _everything(description) if "$ref" in part}
    assert references
    for reference in references:
        found: Any = description
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_description_names_its_security_schemes(description: dict[str, Any]) -> None:
    """Every requirement names a declared scheme: deleting needs a bearer token."""
    schemes = description.get("components", {}).get("securitySchemes", {})
    required = {
        name
        for part in _everything(description["paths"])
        for requirement in part.get("security", [])
        for name in requirement
    }
    assert required
    assert required <= set(schemes)
    assert {schemes[name]["scheme"].lower() for name in required} == {"bearer"}


def test_description_has_the_routes_and_their_errors(description: dict[str, Any]) -> None:
    """The description has the documented routes, with their errors."""
    operations = {
        f"{method.upper()} {path}": set(operation["responses"])
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }
    assert operations["POST /messages"] >= {"201", "303", "403", "413", "415", "422", "429", "503"}
    assert operations["GET /messages"] >= {"200", "422", "503"}
    assert operations["GET /messages/{message_id}"] >= {"200", "404", "503"}
    assert operations["DELETE /messages/{message_id}"] >= {"204", "401", "403", "404", "503"}
    edit = operations["PATCH /messages/{message_id}"]
    assert edit == {"200", "403", "404", "413", "415", "422", "429", "503"}
    assert operations["GET /events"] >= {"200", "422", "503"}
    assert operations["GET /feed.atom"] >= {"200", "503"}
    assert operations["GET /ready"] >= {"200", "503"}
    commands = operations["POST /lab/{pod}/{action}"]
    assert commands == {"202", "401", "403", "404", "422", "429", "503"}
    for path in ("/healthz", "/env", "/metrics", "/lrange/{key}", "/rpush/{key}/{value}", "/info"):
        assert "200" in operations[f"GET {path}"]
    stream = description["paths"]["/events"]["get"]["responses"]["200"]["content"]
    assert list(stream) == ["text/event-stream"]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                kinds = set(response.get("content", {}))
                if status.startswith("4"):
                    assert kinds <= {"application/problem+json", "text/html"}, (method, path)


def test_optional_members_have_no_default(description: dict[str, Any]) -> None:
    """A generated client may leave them out, which is not always the same as null."""
    for name in ("MessageIn", "MessageForm", "ControlIn", "BanIn"):
        schema = description["components"]["schemas"][name]
        optional = set(schema["properties"]) - set(schema.get("required", []))
        assert optional
        assert not [each for each in optional if "default" in schema["properties"][each]], name


def test_api_md_describes_every_route_and_event() -> None:
    """Each path stands there with its parameters in capitals, and each event in its table."""
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    paths = create_app(Settings(lab=True, legacy_api=True)).openapi()["paths"]
    for path in paths:
        written = re.sub(r"\{(?:\w+_)?(\w+)\}", lambda match: match[1].upper(), path)
        assert written in text, f"describe {path} in docs/api.md"
    for event in ("edited", "deleted", "pods", "ping", "reset", "bye"):
        assert f"| `{event}` |" in text


async def test_there_is_no_documentation_page(api: httpx.AsyncClient) -> None:
    """Those of FastAPI load scripts from other sites."""
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect", "/swagger"):
        assert (await api.get(path)).status_code == 404, path


@pytest.mark.slow
async def test_no_described_request_breaks_the_server(pod: Server, tmp_path: Path) -> None:
    """Many right and wrong requests: no server error, and no answer that is not described."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{pod.url}/openapi.json"),
        # A stream does not end, so every request for one would wait for its timeout: see
        # test_events.py. The lab would break the pod, whose name the checks learn from answers.
        # /healthz answers 503 about a pod that there is not.
        *("--exclude-path-regex", "^/(events|held/events|healthz$|lab/)"),
        *("--checks", ",".join(CHECKS)),
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "12"),
        *("--seed", "1", "--generation-database", "none", "--request-timeout", "10"),
        *("--no-shrink", "--no-color", "--warnings", "off"),
        *("--report", "json", "--report-json-path", str(tmp_path / "report.json")),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(100):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    said = out.decode()
    assert process.returncode == 0, said[-6000:]
    # A run that found no operation would succeed as well.
    assert re.search(r"\b[1-9]\d{2,} generated\b", said), said[-3000:]
    assert json.loads((tmp_path / "report.json").read_text())
    assert "Traceback" not in pod.lines()
