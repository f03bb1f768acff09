"""The version of this checkout: hatchling asks for it when it builds the package.

At a release's tag (v0.1.0) its number; between tags the release that is being prepared, the number
of commits and the commit: 0.1.0.dev12+g1234abc, and .dirty with changes that are not committed. A
build that has no repository takes it from the source distribution, or from the variable
GUESTBOOK_BUILD_VERSION.
"""

from __future__ import annotations

import os
import subprocess
from email.parser import HeaderParser
from pathlib import Path

RELEASE = "0.1.0"
"""The release that is being prepared. Images in manifests and documents have this tag."""

_ROOT = Path(__file__).resolve().parents[1]


def version(root: Path = _ROOT) -> str:
    """Return the version."""
    given = os.environ.get("GUESTBOOK_BUILD_VERSION", "").removeprefix("v")
    return given or _of_distribution(root) or _of_commit(root) or f"{RELEASE}+unknown"


def _of_distribution(root: Path) -> str | None:
    file = root / "PKG-INFO"
    return HeaderParser().parsestr(file.read_text("utf-8"))["Version"] if file.exists() else None


def _of_commit(root: Path) -> str | None:
    # An unpacked archive may be in a folder of another repository.
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=7", "HEAD")
        dirty = ".dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
        if _git(root, "tag", "--points-at", "HEAD", f"v{RELEASE}") and not dirty:
            return RELEASE
        # In a shallow clone these are fewer; the commit tells two builds apart all the same.
        count = _git(root, "rev-list", "--count", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{RELEASE}.dev{count}+g{commit}{dirty}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    print(version())
