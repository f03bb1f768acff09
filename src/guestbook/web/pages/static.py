"""The files that come with the program: the templates, and what is served below `/static`."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

import guestbook
from guestbook.web.pages.i18n import accepts_gzip

URL = "/static"

# Not from `mimetypes`: its answer depends on the machine, and a browser refuses a script of the
# wrong type. What has another suffix (type declarations) is not served.
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# A comment that has its line to itself; the line stays, so that a browser's numbers are right.
_COMMENT = re.compile(rb"^ *(?:/\*+[^*\n]*\*/|// .*)$", re.MULTILINE)
_HASHED = re.compile(r"[0-9a-f]{12}/(?P<name>.+)", re.DOTALL)


def folder(name: str) -> Path:
    """Return the folder `templates` or `static`: inside the package in a wheel, else beside it."""
    package = Path(guestbook.__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


class _File(NamedTuple):
    media_type: str
    plain: bytes
    gzipped: bytes
    etag: str


class Assets(StaticFiles):
    """Serve the static files, read and compressed once; an ASGI application to mount at `URL`.

    A file has three kinds of address:

    - below the hash of all files, `/static/0123456789ab/js/main.js`: cached for good. Modules
      import each other by relative addresses, so one page stays below one hash.
    - below any other hash: the page came from a pod of another version, as happens during a
      rolling update. It gets the file that this pod has, and must ask again the next time.
    - by its name alone, `/static/js/main.js`: must be asked for each time, too.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory)
        files = {
            path.relative_to(directory).as_posix(): _read(path)
            for path in sorted(directory.rglob("*"))
            if path.suffix in _TYPES
        }
        self._files = {os.path.realpath(directory / name): file for name, file in files.items()}
        etags = "\n".join(f"{name} {file.etag}" for name, file in files.items())
        self._version = hashlib.sha256(etags.encode()).hexdigest()[:12]
        self._urls = {name: f"{URL}/{self._version}/{name}" for name in files}

    def url(self, name: str) -> str:
        """Return the address of a file that may be cached for good; KeyError if there is none."""
        return self._urls[name]

    @property
    def modules(self) -> list[str]:
        """The addresses of all modules of the page's script."""
        return [url for name, url in self._urls.items() if name.endswith(".js")]

    def get_path(self, scope: Scope) -> str:
        """Return the path of the file within the folder."""
        path = super().get_path(scope)
        hashed = _HASHED.fullmatch(path)
        return hashed["name"] if hashed else path

    def file_response(
        self,
        full_path: PathLike,
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return the file as it is in memory, or 304."""
        file = self._files.get(os.fspath(full_path))
        if file is None:
            raise HTTPException(404)
        request = Headers(scope=scope)
        is_gzipped = accepts_gzip(request.get("accept-encoding", ""))
        is_current = super().get_path(scope).startswith(f"{self._version}/")
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if is_current else "no-cache",
            "ETag": f'"{file.etag}-gzip"' if is_gzipped else f'"{file.etag}"',
            "Vary": "Accept-Encoding",
        }
        if is_gzipped:
            headers["Content-Encoding"] = "gzip"
        body = file.gzipped if is_gzipped else file.plain
        response = Response(body, status_code, headers, file.media_type)
        if self.is_not_modified(response.headers, request):
            return NotModifiedResponse(response.headers)
        return response


def _read(path: Path) -> _File:
    content = path.read_bytes()
    if path.suffix in (".css", ".js"):
        content = _COMMENT.sub(b"", content)
    etag = hashlib.sha256(content).hexdigest()[:32]
    return _File(_TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0), etag)
