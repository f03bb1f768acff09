"""The middleware with a prefix, and with a route that fails."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from guestbook.settings import Settings
from guestbook.web.app import create_app


async def test_labels_do_not_have_the_prefix() -> None:
    """Metrics have neither the prefix of a plain route nor that of a mounted folder."""
    app = create_app(Settings())
    transport = httpx.ASGITransport(app, root_path="/prefix")
    async with httpx.AsyncClient(transport=transport, base_url="http://guestbook") as client:
        assert (await client.post("/prefix/")).status_code == 405
        assert (await client.get("/prefix/static/nothing")).status_code == 404
    exposition = app.state.metrics.exposition().decode()
    for labels in (
        'method="POST",route="/",status="405"',
        'method="GET",route="/static",status="404"',
    ):
        assert f"guestbook_http_requests_total{{{labels}}} 1.0" in exposition


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """An application with a route that fails."""
    monkeypatch.setenv("GUESTBOOK_ALLOW_ORIGINS", "https://a.example")
    app = create_app(Settings())

    @app.get("/broken")
    async def fail() -> None:
        raise ArithmeticError

    return app


async def test_route_that_fails(broken: FastAPI) -> None:
    """The answer is a problem with the headers of every other, those for allowed sites too."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(broken),
        base_url="http://guestbook",
        headers={"Origin": "https://a.example"},
    ) as client:
        answer = await client.get("/broken", headers={"X-Request-ID": "unlucky"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get_list("x-request-id") == ["unlucky"]
    assert "content-security-policy" in answer.headers
    assert b'{method="GET",route="/broken",status="500"} 1.0' in broken.state.metrics.exposition()
