"""A client that openapi-python-client generates from the API's description of a running server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import Server

# It has an environment of its own; see requirements/client.in.
_BIN = Path(sys.prefix) / "client" / "bin"

_SCRIPT = """
import json, sys
from generated.client import AuthenticatedClient
from generated.api.messages import delete_message, list_messages, post_message, read_message
from generated.models import MessageIn, MessageOut, Problem

with AuthenticatedClient(sys.argv[1], token="the token") as client:
    first = post_message.sync(client=client, body=MessageIn("hello", "Ada"), idempotency_key="k")
    again = post_message.sync(client=client, body=MessageIn("other"), idempotency_key="k")
    second = post_message.sync(client=client, body=MessageIn("good evening"))
    refused = post_message.sync(client=client, body=MessageIn(""))
    read = read_message.sync(first.id, client=client)
    newest = list_messages.sync(client=client, limit=1)
    after = list_messages.sync(client=client, after=first.id)
    deleted = delete_message.sync_detailed(first.id, client=client)
    missing = read_message.sync(first.id, client=client)
assert all(isinstance(message, MessageOut) for message in (first, second, read))
assert isinstance(refused, Problem) and isinstance(missing, Problem)
print(json.dumps({
    "first": first.to_dict(),
    "again": again.to_dict(),
    "read": read.to_dict(),
    "second": second.to_dict(),
    "refused": refused.to_dict(),
    "newest": newest.to_dict(),
    "after": after.to_dict(),
    "deleted": deleted.status_code,
    "missing": missing.status,
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not _BIN.exists(), reason="make pytest installs the generator")
async def test_generated_client_posts_lists_reads_and_deletes(
    redis_url: str, tmp_path: Path
) -> None:
    """Its functions and types are named after the API's; errors are problems with their fields."""
    env = {"GUESTBOOK_ADMIN_TOKEN": "the token"}
    with Server(tmp_path / "log", redis_url, **env) as server:
        await server.ready()
        _run(
            str(_BIN / "openapi-python-client"),
            *("generate", "--url", f"{server.url}/openapi.json"),
            *("--meta", "none", "--output-path", str(tmp_path / "generated")),
            cwd=tmp_path,
        )
        (tmp_path / "script.py").write_text(_SCRIPT)
        answers = json.loads(_run(str(_BIN / "python"), "script.py", server.url, cwd=tmp_path))
    first, second = answers["first"], answers["second"]
    assert list(first) == ["id", "author", "text", "posted_at", "pod"]
    assert (first["text"], first["author"]) == ("hello", "Ada")
    assert (second["text"], second["author"]) == ("good evening", None)
    assert answers["again"] == answers["read"] == first
    assert answers["newest"]["messages"] == [second]
    assert answers["newest"]["next"] == f"/messages?limit=1&before={second['id']}"
    assert answers["after"] == {"messages": [second], "next": None}
    assert answers["refused"]["errors"][0] == {
        "field": "text",
        "reason": "is empty: write at least one character",
        "code": "empty",
    }
    assert (answers["deleted"], answers["missing"]) == (204, 404)


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
