"""The browser tests themselves."""

from __future__ import annotations

from tests.browser.conftest import Complaints, Pods, Visit
from tests.support.waiting import eventually


async def test_complaints_are_heard(pods: Pods, visit: Visit, complaints: Complaints) -> None:
    """The fixture hears what the browser blocks and which scripts fail."""
    page = await visit(pods.a.url, expects=("Content Security Policy", "CSP violation", "oops"))
    await page.evaluate("""() => {
        document.body.insertAdjacentHTML("beforeend", "<p style='color: red' onclick='x()'>");
        setTimeout(() => { throw new Error("oops"); });
    }""")
    awaited = ("CSP violation: style-src-attr", "CSP violation: script-src-attr", "oops")
    await eventually(lambda: all(words in " ".join(complaints.heard) for words in awaited))
