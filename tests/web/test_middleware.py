"""What the middleware records of requests that another server passes on below a prefix."""

from __future__ import annotations

import httpx

from guestbook.settings import Settings
from guestbook.web.app import create_app


async def test_labels_do_not_have_the_prefix() -> None:
    """Neither that of a plain route nor that of a mounted folder."""
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
