"""A page as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser

_SHOWN = {"text", "author"}


class Document(HTMLParser):
    """The elements and the text of a page, its messages, and what is in its form."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.inline = ""
        """The contents of scripts and styles."""
        self.messages: list[dict[str, str]] = []
        self.typed = {"text": "", "author": ""}
        self.problems = ""
        self._into = ""
        self._is_in_template = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        self._into = "inline" if tag in ("script", "style") else ""
        self._is_in_template = self._is_in_template or tag == "template"
        if self._is_in_template:
            return
        shown = [name for name in given.get("class", "").split() if name in _SHOWN]
        if given.get("data-id"):
            self.messages.append({"id": given["data-id"], "text": "", "author": ""})
        elif shown and self.messages:
            self._into = shown[0]
        elif given.get("role") == "alert":
            self._into = "problem"
        elif tag == "textarea":
            self._into = "typed"
        elif given.get("name") == "author":
            self.typed["author"] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._into = ""
        if tag == "template":
            self._is_in_template = False
        elif tag == "textarea":
            # The HTML standard drops one line end after the start tag.
            self.typed["text"] = self.typed["text"].removeprefix("\n")

    def handle_data(self, data: str) -> None:
        if self._into == "inline":
            self.inline += data
            return
        self.text += data
        if self._into == "typed":
            self.typed["text"] += data
        elif self._into == "problem":
            self.problems += data
        elif self._into:
            self.messages[-1][self._into] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements with this tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        """The ids of the messages, in the order of the page."""
        return [message["id"] for message in self.messages]

    @property
    def cursor(self) -> str:
        """The cursor from which the script continues."""
        (found,) = [given["data-cursor"] for _, given in self.elements if "data-cursor" in given]
        return found
