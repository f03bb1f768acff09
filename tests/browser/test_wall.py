"""The wall: for a projector."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import ADMIN, Pods, Visit
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
    await expect(page.locator("form, textarea")).to_have_count(0)
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
    """A projector needs no one to reload the page."""
    page = await visit(f"{pods.a.url}/wall", expects=(LOST,))
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(pods.b, "meanwhile")
    await page.context.set_offline(False)
    await is_state(page, "live", "Live")
    await shows(page, "meanwhile")


# Whether a text from right to left ends at the right edge and begins far from the left one.
_IS_ON_THE_RIGHT = """(text) => {
  const range = new Range();
  range.selectNodeContents(text);
  const [outer, inner] = [text, range].map((each) => each.getBoundingClientRect());
  return inner.left - outer.left > 99 && outer.right - inner.right < 2;
}"""


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844), (844, 390)])
async def test_wall_is_one_screen(pods: Pods, visit: Visit, width: int, height: int) -> None:
    """A presenter's clicker only looks further down; the wall returns to the newest by itself."""
    await post(pods.a, *map(str, range(30)), "مرحباً")
    page = await visit(f"{pods.a.url}/wall", width=width, height=height, clock=True)
    newest = page.locator("#messages > li").first
    assert await newest.locator(".text").evaluate(_IS_ON_THE_RIGHT)
    for key in ("PageDown", "PageDown", "PageUp", "End", "ArrowDown"):
        await page.keyboard.press(key)
    await page.keyboard.press("PageDown")
    await expect(newest).not_to_be_in_viewport()
    await post(pods.b, "meanwhile")
    for fixed in (".cover h1", ".qr svg"):
        await expect(page.locator(fixed)).to_be_in_viewport(ratio=1)
    size = await page.evaluate("[document.documentElement.scrollHeight, scrollY]")
    assert size == [height, 0]
    await page.clock.run_for(21_000)
    await expect(page.get_by_text("meanwhile", exact=True)).to_be_in_viewport()
    await expect(page.locator(".marked")).to_have_count(0)


async def test_wall_pauses_and_loses_nothing(pods: Pods, visit: Visit) -> None:
    """The space bar stops the wall; again, and all that came stands there in its order."""
    await post(pods.a, "before")
    page = await visit(f"{pods.a.url}/wall")
    await page.keyboard.press("Space")
    await expect(page.locator("#paused")).to_have_text("Paused, 0 waiting")
    texts = [f"number {number}" for number in range(12)]
    posted = await post(pods.b, *texts)
    await expect(page.locator("#paused")).to_have_text("Paused, 12 waiting")
    async with httpx.AsyncClient(base_url=pods.b.url, headers=ADMIN) as client:
        await client.delete(f"/messages/{posted[3]['id']}")
    await expect(page.locator("#paused")).to_have_text("Paused, 11 waiting")
    await shows(page, "before")
    await page.keyboard.press("Space")
    await expect(page.locator("#paused")).to_be_hidden()
    await shows(page, *[text for text in reversed(texts) if text != "number 3"], "before")


async def test_wall_hides_a_message(pods: Pods, visit: Visit) -> None:
    """The newest or the marked one: on this wall, also when it is loaded again; until undone."""
    await post(pods.a, "one", "two", "three", "four")
    page = await visit(f"{pods.a.url}/wall")
    await page.keyboard.press("h")
    await shows(page, "three", "two", "one")
    for key in ("ArrowDown", "ArrowDown", "h"):
        await page.keyboard.press(key)
    await shows(page, "three", "one")
    await page.reload()
    await shows(page, "three", "one")
    await shows(await visit(f"{pods.a.url}/wall"), "four", "three", "two", "one")
    await page.keyboard.press("u")
    await shows(page, "four", "three", "two", "one")


async def test_keys_can_be_switched_off(pods: Pods, visit: Visit) -> None:
    """Single keys do nothing then, also when the wall is loaded again; PageDown and arrows do."""
    await post(pods.a, *map(str, range(30)))
    page = await visit(f"{pods.a.url}/wall")
    newest = page.locator("#messages > li").first
    await page.get_by_role("button", name="Keys").click()
    await page.get_by_label("Use these keys").press("Space")
    await is_accessible(page)
    await page.keyboard.press("Escape")
    await expect(page.locator("#keys")).to_be_hidden()
    await page.locator("h1").click()
    for _ in range(2):
        for key in ("h", "Space", "?", "+"):
            await page.keyboard.press(key)
        await expect(page.locator("#paused")).to_be_hidden()
        await expect(newest).to_contain_text("29")
        await page.keyboard.press("PageDown")
        await expect(newest).not_to_be_in_viewport()
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-state", "live")
    await page.get_by_role("button", name="Keys").click()
    await page.get_by_label("Use these keys").check()
    await page.keyboard.press("h")
    await expect(newest).to_contain_text("28")


async def test_wall_has_keys_for_type_and_screen(pods: Pods, visit: Visit) -> None:
    """They are listed on demand, and work as buttons; the screen stays awake."""
    await post(pods.a, "one")
    awake = "if (isSecureContext) navigator.wakeLock.request = async (what) => { awake = what; };"
    page = await visit(f"{pods.a.url}/wall", before=awake)
    assert await page.evaluate("awake") == "screen"
    text, size = page.locator(".text"), "(e) => parseFloat(getComputedStyle(e).fontSize)"
    usual = await text.evaluate(size)
    await page.keyboard.press("+")
    assert await text.evaluate(size) == pytest.approx(usual * 1.15)
    await page.reload()
    assert await text.evaluate(size) == pytest.approx(usual * 1.15)
    await expect(page.locator("#keys")).to_be_hidden()
    await page.get_by_role("button", name="Keys").click()
    await expect(page.locator("#keys")).to_be_visible()
    for is_visible in (False, True):
        await page.keyboard.press("?")
        await expect(page.locator("#keys")).to_be_visible(visible=is_visible)
    await page.get_by_role("button", name="smaller type").click()
    assert await text.evaluate(size) == pytest.approx(usual)
    await page.keyboard.press("f")
    await expect(page.locator("html:fullscreen")).to_be_attached()
    await page.keyboard.press("f")
    await expect(page.locator("html:fullscreen")).to_have_count(0)
