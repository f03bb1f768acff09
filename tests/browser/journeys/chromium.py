"""Chromium, through Playwright."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.journeys.tab import Engine, Tab, Visitor

# Makes storage fail as in a browser that blocks all site data.
_REFUSE_STORAGE = """
const refuse = () => { throw new DOMException("The request was denied.", "SecurityError"); };
for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, { get: refuse });
window.BroadcastChannel = class { constructor() { refuse(); } };
if (navigator.locks) navigator.locks.request = async () => refuse();
"""


class Chromium(Engine):
    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._errors: list[str] = []

    async def visitor(self, visitor: Visitor) -> Tab:
        context = await self._browser.new_context(
            locale=visitor.language,
            color_scheme="dark" if visitor.dark else "light",
            viewport={"width": visitor.width, "height": 720},
            java_script_enabled=visitor.runs_scripts,
        )
        self._contexts.append(context)
        context.on("weberror", lambda error: self._errors.append(str(error.error)))
        if not visitor.stores:
            await context.add_init_script(_REFUSE_STORAGE)
        return ChromiumTab(await context.new_page())

    async def leave(self) -> list[str]:
        for context in self._contexts:
            await context.close()
        self._contexts.clear()
        errors, self._errors = self._errors, []
        return errors

    async def close(self) -> None:
        """Leave the browser to its fixture."""


class ChromiumTab(Tab):
    def __init__(self, page: Page) -> None:
        self._page = page

    async def open(self, url: str) -> None:
        await self._page.goto(url)

    async def reload(self) -> None:
        await self._page.reload()

    async def run(self, expression: str) -> Any:
        return await self._page.evaluate(expression)

    async def type(self, selector: str, text: str) -> None:
        await self._page.click(selector)
        await self._page.keyboard.type(text)

    async def click(self, selector: str) -> None:
        await self._page.click(selector)

    async def another(self) -> Tab:
        return ChromiumTab(await self._page.context.new_page())

    async def close(self) -> None:
        await self._page.close()
