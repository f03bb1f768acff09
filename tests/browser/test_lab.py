"""The lab on the page: a click breaks a pod, and every page shows it."""

from __future__ import annotations

from playwright.async_api import Page, expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import Visit
from tests.conftest import Serve

UNAUTHORIZED = "status of 401"


async def order(page: Page, action: str) -> None:
    """Chooses from the menu of the one pod."""
    await page.click("#pods .lab summary")
    await page.click(f"#pods [data-action={action}]")


async def test_pod_is_broken_by_hand(serve: Serve, visit: Visit) -> None:
    """The token is asked for once, and again if it is wrong; every page tells what was done."""
    server = await serve("pod-a", GUESTBOOK_LAB="true", GUESTBOOK_ADMIN_TOKEN="Sésame, ouvre-toi")
    page = await visit(server.url, expects=(UNAUTHORIZED,))
    witness = await visit(server.url)
    await page.click("#pods .lab summary")
    await is_accessible(page)
    await page.click("#pods [data-action=not-ready]")
    await expect(page.locator("#token")).to_be_visible()
    for token, problem in (("wrong", ""), ("Sésame, ouvre-toi", "This is not the admin token.")):
        await expect(page.locator("#token-value")).to_be_focused()
        await expect(page.locator("#token-problem")).to_have_text(problem)
        await is_accessible(page)
        await page.fill("#token-value", token)
        async with page.expect_response("**/lab/pod-a/not-ready"):
            await page.keyboard.press("Enter")
    for each in (page, witness):
        await expect(each.locator("#pods .condition")).to_have_text("not ready on purpose")
    await expect(page.locator("#happenings li")).to_contain_text(
        "pod-a: Not ready, requested by you"
    )
    await is_accessible(page)

    await order(page, "ready")
    await expect(witness.locator("#pods .condition")).to_have_text("")
    await expect(page.locator("#token")).to_be_hidden()


async def test_no_lab_no_menu(serve: Serve, visit: Visit) -> None:
    """Without the lab there is neither a menu nor a dialog."""
    page = await visit((await serve()).url)
    await expect(page.locator("#pods li")).to_have_count(1)
    await expect(page.locator(".lab, dialog")).to_have_count(0)
