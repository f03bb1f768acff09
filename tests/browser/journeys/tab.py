"""A browser tab, as journeys use it in every browser."""

from __future__ import annotations

import abc
import json
import os
import shutil
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.waiting import eventually


@dataclass(frozen=True)
class Visitor:
    """How a visitor's browser is set up."""

    language: str = "en-GB"
    dark: bool = False
    width: int = 1280
    runs_scripts: bool = True
    stores: bool = True
    """False: the browser refuses to store anything for the page."""


class Tab(abc.ABC):
    """A tab of a visitor's browser."""

    @abc.abstractmethod
    async def open(self, url: str) -> None:
        """Load a page."""

    @abc.abstractmethod
    async def reload(self) -> None:
        """Load the page again."""

    @abc.abstractmethod
    async def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page, as JSON has it."""

    @abc.abstractmethod
    async def type(self, selector: str, text: str) -> None:
        """Click into a field and type."""

    @abc.abstractmethod
    async def click(self, selector: str) -> None:
        """Click in the middle of an element."""

    @abc.abstractmethod
    async def another(self) -> Tab:
        """Open another tab of the same visitor's."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close this tab alone."""

    async def texts(self, selector: str) -> list[str]:
        """Return what stands in the elements, in their order."""
        found = f"document.querySelectorAll({json.dumps(selector)})"
        texts: list[str] = await self.run(f"Array.from({found}, (each) => each.textContent)")
        return texts

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""

        async def is_true() -> bool:
            return bool(await self.run(expression))

        await eventually(is_true, within=30)

    async def is_state(self, state: str, words: str) -> None:
        """Wait until the page is in this state, and shows it."""
        await self.until(f"document.documentElement.dataset.state === {json.dumps(state)}")
        assert await self.texts("#state") == [words]

    async def shows(self, *texts: str) -> None:
        """Wait until the page lists exactly these texts, from top to bottom."""

        async def are_shown() -> bool:
            return await self.texts("#messages > li.entry .text") == list(texts)

        await eventually(are_shown, within=30)

    async def sign(self, text: str) -> None:
        """Write a message into the form and send it."""
        await self.type("#text", text)
        await self.click("form button")


class Engine(abc.ABC):
    """A browser, from which any number of visitors come."""

    @abc.abstractmethod
    async def visitor(self, visitor: Visitor) -> Tab:
        """Open an empty tab for a visitor with a profile of its own."""

    @abc.abstractmethod
    async def leave(self) -> list[str]:
        """End the visits; return the errors of scripts, as far as the browser reports them."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End the browser."""


def program(*names: str, package: str) -> str:
    """Return where a browser's program is, by the first of its names that is there."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and "CI" in os.environ:
        pytest.fail(f"{names[0]} is missing: Debian's package {package} has it")
    return found or pytest.skip(f"{names[0]} is not installed: CI makes this journey")
