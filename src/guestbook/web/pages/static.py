"""The program's files: the templates, and the files below `/static`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import guestbook
from guestbook.web.pages.cache import CachedResponse

URL = "/static"

# Not from `mimetypes`: its answer depends on the machine, and a browser refuses a script of the
# wrong type. What has another suffix (type declarations) is not served.
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# Comments and indentation; each line stays, so that a browser's numbers are right.
_UNSENT = re.compile(rb"^ *// .*$|^ +|/\*[^\n]*?\*/ ?", re.MULTILINE)
_HASHED = re.compile(r"(?P<version>[0-9a-f]{12})/(?P<name>.+)", re.DOTALL)
_FOR_GOOD = "public, max-age=31536000, immutable"


def folder(name: str) -> Path:
    """Return the folder `templates` or `static`, which only a wheel has inside the package."""
    package = Path(guestbook.__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


class Assets(StaticFiles):
    """Serve the static files from memory; an ASGI application to mount at `URL`.

    A file has three kinds of address:

    - below the hash of all files, `/static/0123456789ab/js/main.js`: cached for good. Modules
      import each other by relative addresses, so one page stays below one hash.
    - below another hash, for pages from a pod of another version during a rolling update: this
      pod's file, not cached.
    - by its name alone, `/static/js/main.js`: not cached either.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory)
        paths = [path for path in sorted(directory.rglob("*")) if path.suffix in _TYPES]
        files = {path.relative_to(directory).as_posix(): _read(path) for path in paths}
        contents = b"".join(
            b"%s %d " % (name.encode(), len(files[name])) + files[name] for name in files
        )
        self._version = hashlib.sha256(contents).hexdigest()[:12]
        self._urls = {name: f"{URL}/{self._version}/{name}" for name in files}
        self._current = {name: _response(name, files[name], _FOR_GOOD) for name in files}
        self._others = {name: _response(name, files[name], "no-cache") for name in files}

    def url(self, name: str) -> str:
        """Return the address of a file that may be cached for good; KeyError if there is none."""
        return self._urls[name]

    @property
    def modules(self) -> list[str]:
        """The addresses of all modules of the page's script."""
        return [url for name, url in self._urls.items() if name.endswith(".js")]

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at a path, without a look at the disk."""
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405)
        hashed = _HASHED.fullmatch(path)
        is_current = hashed is not None and hashed["version"] == self._version
        files = self._current if is_current else self._others
        try:
            return files[hashed["name"] if hashed else path]
        except KeyError:
            raise HTTPException(404) from None


def _read(path: Path) -> bytes:
    content = path.read_bytes()
    return _UNSENT.sub(b"", content) if path.suffix in (".css", ".js") else content


def _response(name: str, content: bytes, cache_control: str) -> CachedResponse:
    headers = {"Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    return CachedResponse(content, media_type=_TYPES[Path(name).suffix], headers=headers)
