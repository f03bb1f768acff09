"""`guestbook serve` as the command that a terminal runs."""

from __future__ import annotations

import signal

from tests.conftest import Serve
from tests.support.sse import EventStream


async def test_closed_terminal_ends_the_server_as_sigterm_does(serve: Serve) -> None:
    """SIGHUP drains: streams end with `bye`, and the exit status tells of the signal."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="0")
    async with EventStream(server.url) as stream:
        await stream.until("pods")
        server.signal(signal.SIGHUP)
        assert (await stream.rest())[-1].name == "bye"
        assert stream.is_complete
    assert await server.ended() == -signal.SIGHUP
    assert "Traceback" not in server.lines()
