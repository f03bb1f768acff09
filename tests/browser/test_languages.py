"""The page in French; other tests read it in English."""

from __future__ import annotations

import re

from playwright.async_api import expect

from guestbook.core.messages import AUTHOR_MAX, TEXT_MAX
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import LOST, UNPROCESSABLE, form_is, is_state, shows, sign

EMPTY = "Votre message est vide\u00a0: écrivez au moins un caractère."
REFUSED = [
    ("text", " ", EMPTY),
    ("text", "x" * 1234, r"Votre message compte 1.?234 caractères\u00a0: 1.?000 au maximum"),
    ("author", "y" * 61, r"Votre nom compte 61 caractères\u00a0: 60 au maximum"),
]


async def test_french_page(pods: Pods, visit: Visit) -> None:
    """All words that the script shows are in the visitor's language, errors too."""
    page = await visit(pods.a.url, locale="fr-CH", expects=(LOST,))
    await expect(page.locator("html")).to_have_attribute("lang", "fr")
    await expect(page).to_have_title("Livre d’or")
    await is_state(page, "live", "En direct")
    await expect(page.locator("#watching")).to_have_text(re.compile(r"\d en ligne, 2 pods"))
    await sign(page, "bonjour")
    await form_is(page, "sent")
    await expect(page.locator("#note")).to_have_text(
        "Merci\u00a0! Votre message est dans le livre d’or."
    )
    await expect(page.locator("#messages .author")).to_have_text("Anonyme")
    await expect(page.locator("#messages time")).to_have_text("maintenant")
    await page.context.set_offline(True)
    await is_state(page, "offline", "Hors ligne")
    await sign(page, "plus tard")
    await expect(page.locator(".pending .why")).to_have_text(
        "Conservé dans ce navigateur, sera envoyé automatiquement"
    )
    await expect(page.locator(".pending").get_by_role("button", name="Modifier")).to_be_visible()


async def test_french_errors_with_and_without_script(pods: Pods, visit: Visit) -> None:
    """Script and server have the same words for the same fault."""
    for script in (True, False):
        page = await visit(pods.a.url, locale="fr-FR", script=script, expects=(UNPROCESSABLE,))
        for field, value, reason in REFUSED:
            await page.fill("#text", "texte")
            await page.fill(f"#{field}", value)
            await page.click("form button")
            await expect(page.locator(f"#{field}-problem")).to_have_text(re.compile(reason))
            await expect(page.locator(f"#{field}")).to_be_focused()
    assert (TEXT_MAX, AUTHOR_MAX) == (1000, 60)
    await shows(page)
