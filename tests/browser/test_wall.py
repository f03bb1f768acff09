"""The wall: for a projector."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import LOST, fits, is_state, post, shows


async def test_wall_is_live(pods: Pods, visit: Visit) -> None:
    """Messages arrive on it, in large type; it shows how many watch, and where to write."""
    page = await visit(pods.a.url)
    await page.get_by_role("link", name="Projector view").click()
    await expect(page).to_have_url(f"{pods.a.url}/wall")
    await is_state(page, "live", "Live")
    await post(pods.b, "to everybody: https://example.org/", author="Ada")
    await shows(page, "to everybody: https://example.org/")
    await expect(page.locator("#messages a")).to_have_attribute("href", "https://example.org/")
    await expect(page.locator("#watching")).to_contain_text("online")
    await expect(page.locator(".cover")).to_contain_text(pods.a.url.partition("//")[2])
    await expect(page.locator("form, textarea, input")).to_have_count(0)
    await expect(page.locator(".qr svg")).to_be_visible()
    live = await page.inner_html("#messages")
    await page.reload()
    assert live.replace(" arriving", "") == await page.inner_html("#messages")


@pytest.mark.parametrize(("width", "height", "least"), [(1920, 1080, 28), (320, 568, 16)])
async def test_wall_fits_a_projector_and_a_phone(
    pods: Pods, visit: Visit, width: int, height: int, least: int
) -> None:
    """Nothing is cut off sideways; the last row can read it, and scan the code."""
    await post(pods.a, "long " * 100, "W" * 200, author="W" * 60)
    page = await visit(f"{pods.a.url}/wall", width=width, height=height)
    await fits(page)
    size = await page.locator(".text").first.evaluate(
        "(e) => parseFloat(getComputedStyle(e).fontSize)"
    )
    assert size >= least
    code = await page.locator(".qr svg").bounding_box()
    assert code is not None
    assert min(code["width"], code["height"]) >= 120
    assert abs(code["width"] - code["height"]) < 2


async def test_wall_comes_back_by_itself(pods: Pods, visit: Visit) -> None:
    """A projector has no visitor beside it to reload the page."""
    page = await visit(f"{pods.a.url}/wall", expects=(LOST,))
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(pods.b, "meanwhile")
    await page.context.set_offline(False)
    await is_state(page, "live", "Live")
    await shows(page, "meanwhile")
