"""The Lua scripts. Redis runs each as one atomic step."""

from __future__ import annotations

from importlib.resources import files


def load_script(name: str) -> str:
    """Return the Lua script of this name, after the helper functions that all of them share."""
    folder = files("guestbook.storage") / "scripts"
    return (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
