"""The wheel alone serves the page."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.servers import Server

_REPOSITORY = Path(__file__).parents[2]


async def test_wheel_alone_serves_the_page(tmp_path: Path, redis_url: str) -> None:
    """Templates and static files are in the wheel: no repository has to be near."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=_REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    with Server(tmp_path / "log", redis_url, PYTHONPATH=str(installed)) as server:
        await server.ready()
        async with server.client() as client:
            assert 'name="text"' in (await client.get("/")).text
            for name in ("js/main.js", "guestbook.css", "icon.svg"):
                served = (await client.get(f"/static/{name}")).content.split(b"\n")
                source = (_REPOSITORY / "static" / name).read_bytes().split(b"\n")
                # Each line is served without indentation and comments.
                lines = zip(served, source, strict=True)
                assert all(a in b or b"/*" in b for a, b in lines), name
                assert any(served)
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "from guestbook.web.pages import static; print(static.folder('static'))",
        ],
        env={"PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert loaded == str(installed / "guestbook" / "static")
