"""The files that come with the program: templates, and what is served below `/static`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

import guestbook
from guestbook.web.pages.cache import CachedResponse

URL = "/static"

# Not by `mimetypes`: what that says depends on the machine, and a wrong type stops the script.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def folder(name: str) -> Path:
    """The folder `templates` or `static`: inside the package in a wheel, else the repository's."""
    package = Path(guestbook.__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


class Assets:
    """The static files, in memory; an ASGI application to be mounted at `URL`.

    Each has two addresses: its name, of which a client asks whether it has changed, and one with
    a hash of its content, which never changes.
    """

    def __init__(self, files: Path) -> None:
        self._hashed: dict[str, str] = {}
        self._served: dict[str, CachedResponse] = {}
        for file in files.iterdir():
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            hashed = f"{file.stem}.{digest}{file.suffix}"
            self._hashed[file.name] = f"{URL}/{hashed}"
            for name, caching in (
                (file.name, "no-cache"),
                (hashed, "public, max-age=31536000, immutable"),
            ):
                headers = {"Cache-Control": caching}
                self._served[f"{URL}/{name}"] = CachedResponse(
                    content, _TYPES[file.suffix], headers
                )

    def url(self, name: str) -> str:
        """The address of a file that may be kept for ever; KeyError where there is no such file."""
        return self._hashed[name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        served = self._served.get(scope["path"])
        if served is None:
            raise HTTPException(404)
        if scope["method"] != "GET":
            raise HTTPException(405)
        await served(scope, receive, send)
