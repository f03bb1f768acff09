"""The violations that axe finds on a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

from tests.browser.visitor import fits

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIEWS: list[tuple[int, Literal["light", "dark"], list[str]]] = [
    (1280, "light", RULES),
    (320, "light", RULES),
    # Only the colours depend on the theme.
    (1280, "dark", ["color-contrast"]),
]


# Without what it finds right, which is long.
_RUN = "(options) => axe.run(options).then((found) => found.violations)"


def describe(violations: list[dict[str, Any]]) -> Iterator[str]:
    for violation in violations:
        for node in violation["nodes"]:
            yield f"{violation['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"


async def is_accessible(page: Page) -> None:
    """Axe finds nothing, on a projector and on a phone, light and dark; and all fits."""
    before = page.viewport_size
    await page.evaluate(AXE_SCRIPT)
    for width, theme, rules in VIEWS:
        await page.set_viewport_size({"width": width, "height": 600})
        await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        options = {"runOnly": rules, "resultTypes": ["violations"]}
        violations = await page.evaluate(_RUN, options)
        assert list(describe(violations)) == [], (width, theme)
        await fits(page)
    if before is not None:
        await page.set_viewport_size(before)
