"""Pages of other sites: what GUESTBOOK_ALLOW_ORIGINS allows the named ones, and no others."""

from __future__ import annotations

from typing import Any

import httpx

from tests.conftest import Serve
from tests.support.sse import EventStream

SITE, OTHER = "https://a.example", "https://b.example"
ALLOWED = "access-control-allow-origin"


async def test_named_site_may_read_and_post(serve: Serve) -> None:
    """Answers, errors and streams on both ways say so; a post is not taken for a forgery."""
    server = await serve(GUESTBOOK_ALLOW_ORIGINS=f"{SITE}, https://c.example")
    async with server.client() as http:
        cross = {"Origin": SITE, "Sec-Fetch-Site": "cross-site"}
        posted = await http.post("/messages", json={"text": "x"}, headers=cross)
        assert (posted.status_code, posted.headers[ALLOWED]) == (201, SITE)
        assert "Location" in posted.headers["access-control-expose-headers"]
        for path in ("/messages", "/messages?before=x", "/env"):
            answer = await http.get(path, headers=cross)
            assert answer.headers[ALLOWED] == SITE
            assert "Origin" in answer.headers["vary"]
        preflight = await http.options(
            "/messages",
            headers={
                **cross,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type, idempotency-key",
            },
        )
        assert (preflight.status_code, preflight.headers[ALLOWED]) == (200, SITE)
        assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]
        assert "X-Request-ID" in preflight.headers["access-control-allow-headers"]
        preflight = await http.options(
            "/messages", headers={"Origin": SITE, "Access-Control-Request-Method": "PUT"}
        )
        assert preflight.status_code == 400
        assert preflight.headers["content-type"] == "application/problem+json"
        assert "method" in preflight.json()["detail"]

        refused = await http.post("/messages", json={"text": "x"}, headers={"Origin": OTHER})
        assert refused.status_code == 403
        assert ALLOWED not in refused.headers
        assert ALLOWED not in (await http.get("/messages")).headers
    for version in ("1.1", "1.0"):
        for origin, expected in ((SITE, SITE), (OTHER, None)):
            headers: Any = {"Origin": origin}
            async with EventStream(server.url, version=version, **headers) as stream:
                assert stream.head.status == 200
                assert stream.head.headers.get(ALLOWED) == expected
                if expected:
                    exposed = stream.head.headers["access-control-expose-headers"]
                    assert "X-Request-ID" in exposed
                await stream.until("pods")


async def test_every_site_may_with_an_asterisk(serve: Serve) -> None:
    """No origin is repeated then: what a cache keeps is for all."""
    server = await serve(GUESTBOOK_ALLOW_ORIGINS="*")
    headers: Any = {"Origin": OTHER}
    async with server.client(headers=headers) as http:
        assert (await http.get("/messages")).headers[ALLOWED] == "*"
        posted = await http.post("/messages", data={"text": "x"})
        assert posted.status_code == 303
    async with EventStream(server.url, **headers) as stream:
        assert stream.head.headers[ALLOWED] == "*"


async def test_errors_of_the_server_can_be_read(serve: Serve) -> None:
    """An address or a head is too long: the page learns it."""
    server = await serve(GUESTBOOK_ALLOW_ORIGINS=SITE)
    async with server.client(headers={"Origin": SITE}) as http:
        for path, headers, status in (
            (f"/{'x' * 33_000}", {}, 414),
            ("/", {"X-Long": "x" * 33_000}, 431),
        ):
            answer = await http.get(path, headers=headers)
            assert (answer.status_code, answer.headers[ALLOWED]) == (status, SITE)
            assert "Origin" in answer.headers["vary"]


async def test_default_port_of_another_scheme_is_a_port(serve: Serve) -> None:
    """Browsers write `https://a:80`, and leave 443 out."""
    server = await serve(GUESTBOOK_ALLOW_ORIGINS="https://a.example:80,https://b.example:443")
    async with server.client() as http:
        for origin, allowed in ((f"{SITE}:80", f"{SITE}:80"), (SITE, None), (OTHER, OTHER)):
            answer = await http.get("/messages", headers={"Origin": origin})
            assert answer.headers.get(ALLOWED) == allowed


async def test_no_site_may_by_default(client: httpx.AsyncClient) -> None:
    """Without the setting there is no header, and no preflight succeeds."""
    headers = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    for answer in (
        await client.get("/messages", headers=headers),
        await client.options("/messages", headers=headers),
    ):
        assert ALLOWED not in answer.headers
