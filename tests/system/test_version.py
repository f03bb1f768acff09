"""The version of a build: of its tag or commit, wherever it is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

import guestbook
from tools.version import RELEASE, version

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(autouse=True)
def no_version_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUESTBOOK_BUILD_VERSION", raising=False)


def test_version_is_that_of_tag_or_commit(tmp_path: Path) -> None:
    """Also in a clone without tags and in a shallow one; uncommitted changes are noted."""
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    (repository / "file").write_text("1")
    git(repository, "add", "file")
    for text in ("one", "two"):
        git(repository, "commit", "-q", "--allow-empty", "-m", text)
    commit = git(repository, "rev-parse", "--short=7", "HEAD")
    assert version(repository) == f"{RELEASE}.dev2+g{commit}"
    git(repository, "clone", "-q", "--depth", "1", repository.as_uri(), str(tmp_path / "shallow"))
    assert version(tmp_path / "shallow") == f"{RELEASE}.dev1+g{commit}"
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    assert version(tmp_path / "tree") == f"{RELEASE}.dev2+g{commit}"

    git(repository, "tag", "v0.0.1")
    assert version(repository) == f"{RELEASE}.dev2+g{commit}"
    git(repository, "tag", f"v{RELEASE}")
    assert version(repository) == RELEASE
    (repository / "file").write_text("2")
    assert version(repository) == f"{RELEASE}.dev2+g{commit}.dirty"


def test_version_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive has none; the image is built with a variable; an empty one is ignored."""
    assert version(tmp_path) == f"{RELEASE}+unknown"
    monkeypatch.setenv("GUESTBOOK_BUILD_VERSION", "")
    assert version(tmp_path) == f"{RELEASE}+unknown"
    monkeypatch.setenv("GUESTBOOK_BUILD_VERSION", "v0.3.0")
    assert version(tmp_path) == "0.3.0"


def test_source_distribution_keeps_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel that is built from it, where there is no repository, has the same version."""
    folder = tmp_path / "source"
    for name in ("LICENSE", "README.md", "pyproject.toml", "tools/version.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path), "--target"]
    monkeypatch.setenv("GUESTBOOK_BUILD_VERSION", "0.3.0.dev4+gabcdef0")
    subprocess.run([*build, "sdist"], cwd=folder, check=True, capture_output=True)
    monkeypatch.delenv("GUESTBOOK_BUILD_VERSION")
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("live_guestbook-*/")
    assert version(unpacked) == "0.3.0.dev4+gabcdef0"


def test_version_is_that_of_the_installation() -> None:
    """The service shows the same version as pip."""
    assert guestbook.__version__ == metadata.version("live-guestbook")
