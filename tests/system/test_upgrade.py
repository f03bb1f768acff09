"""A rolling update and its rollback: an older version and this one, on one Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN, texts
from tests.support.servers import Server, guestbook
from tests.support.sse import EventStream
from tests.support.waiting import eventually_equal

ROOT = Path(__file__).parents[2]
# The tag of the previous release, as soon as there is one. Until then: the last commit whose stream
# had no other entries than messages and deletions.
PREVIOUS = "21a97853fff351ed96929c8a0a4ce07dde3ad49b"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the previous version; the test is skipped where the clone has not got it."""
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", f"{PREVIOUS}^{{commit}}"], check=False).returncode:
        pytest.skip("the clone is shallow, or no repository: fetch the previous version")
    folder = tmp_path_factory.mktemp("previous") / "tree"
    folder.mkdir()
    archive = subprocess.run([*git, "archive", PREVIOUS], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def _complaints(server: Server) -> list[str]:
    return [
        record["event"] for record in server.records() if record["level"] in ("error", "critical")
    ]


async def test_versions_work_side_by_side(previous: Path, serve: Serve, redis_url: str) -> None:
    """Messages, deletions and keys are common; what the old one does not know it leaves alone."""
    env = {"GUESTBOOK_ADMIN_TOKEN": TOKEN}
    old = await serve("old", PYTHONPATH=str(previous / "src"), **env)
    new = await serve("new", **env)
    async with old.client() as on_old, new.client() as on_new:
        # The version stood in its source.
        assert (await on_old.get("/env")).json()["GUESTBOOK_VERSION"] == "0.1.0"
        stream = EventStream(old.url)
        async with stream:
            await stream.until("pods")
            key = {"Idempotency-Key": "one"}
            first = (await on_old.post("/messages", json={"text": "1"}, headers=key)).json()
            again = await on_new.post("/messages", json={"text": "1"}, headers=key)
            assert (again.status_code, again.json()) == (201, first)
            second = (await on_new.post("/messages", json={"text": "2"})).json()
            third = (await on_old.post("/messages", json={"text": "3"})).json()
            await on_new.delete(f"/messages/{second['id']}", headers=ADMIN)
            changed = await on_new.patch(
                f"/messages/{first['id']}", json={"text": "changed"}, headers=key
            )
            assert changed.status_code == 200
            events = await stream.entries(4)
            ids = [event.data["id"] for event in events]
            assert ids == [each["id"] for each in (first, second, third, second)]
            # An edit is shown by new pods alone; it is no error to the old one.
            assert await texts(on_new) == ["3", "changed"]
            await eventually_equal(lambda: texts(on_old), ["3", "1"])
            old.signal(signal.SIGTERM)
            assert (await stream.rest())[-1].name == "bye"
        last = (await on_new.post("/messages", json={"text": "4"})).json()
        async with EventStream(new.url, last_event_id=stream.cursor) as moved:
            missed = await moved.entries(1)
            while missed[-1].data["id"] != last["id"]:
                missed += await moved.entries(1)
        assert [event.data["id"] for event in missed if event.name == "message"] == [last["id"]]
        assert _complaints(old) == []

        # Back to the old version, on what the new one has written.
        back = await serve("back", PYTHONPATH=str(previous / "src"), **env)
        async with back.client() as on_back, EventStream(back.url) as kept:
            assert await texts(on_back) == ["4", "3", "1"]
            await kept.until("pods")
            posted = await on_back.post("/messages", json={"text": "5"})
            assert posted.status_code == 201
            await kept.entries(1)
            cleared = await asyncio.to_thread(guestbook, "clear", "--yes", redis=redis_url)
            assert cleared.returncode == 0
            assert (await kept.entries(1))[0].name == "reset"
            await eventually_equal(lambda: texts(on_back), [])
            assert (await on_back.get("/ready")).status_code == 200
        assert _complaints(back) == []
