"""The wire format, read back by a decoder written after WHATWG HTML, section 9.2."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from guestbook.core import sse
from guestbook.core.event_log import LogEntry
from guestbook.core.messages import EntryId, InvalidMessageError, Message, NewMessage


@dataclass
class Decoder:
    """Section 9.2.6, "interpreting an event stream", sentence by sentence."""

    dispatched: list[tuple[str, str, str]] = field(default_factory=list)
    reconnection_time: int | None = None
    _data: str = ""
    _event_type: str = ""
    _id: str = ""
    _last_event_id: str = ""

    def interpret(self, stream: bytes) -> Decoder:
        """Decode a whole stream; an event that no blank line ends is discarded."""
        text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
        *lines, rest = re.split(r"\r\n|\n|\r", text)
        for line in lines:
            if line == "":
                self._dispatch()
            elif line.startswith(":"):
                pass
            elif ":" in line:
                name, _, value = line.partition(":")
                self._process(name, value.removeprefix(" "))
            else:
                self._process(line, "")
        assert rest == "", "the last line is not ended"
        return self

    def _process(self, name: str, value: str) -> None:
        if name == "event":
            self._event_type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.reconnection_time = int(value)

    def _dispatch(self) -> None:
        self._last_event_id = self._id
        data, event_type = self._data, self._event_type or "message"
        self._data = self._event_type = ""
        if data:
            self.dispatched.append((event_type, data.removesuffix("\n"), self._last_event_id))


one_line = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1
)
# A byte order mark at the start of a value would be taken for part of the format.
values = one_line.filter(lambda value: not value.startswith("\ufeff"))
data = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"),
        st.sampled_from(": \u2028\u2029\x85\x0b\x0c\x1c\x1e\0\ufeff"),
    )
)


@given(st.lists(st.tuples(data, st.none() | values, st.none() | values)))
def test_client_dispatches_what_was_encoded(
    events: list[tuple[str, str | None, str | None]],
) -> None:
    """Any data, name and id, in order; an event without an id keeps the last one."""
    stream = b"".join(
        sse.event(body.encode(), id=own_id, name=name) for body, own_id, name in events
    )
    wanted, last_id = [], ""
    for body, own_id, name in events:
        last_id = last_id if own_id is None else own_id
        wanted.append((name or "message", body, last_id))
    # A client drops one byte order mark at the very start, where our streams have a comment.
    assert Decoder().interpret(sse.comment("start") + stream).dispatched == wanted


@given(data, st.integers(0, 10**9), one_line)
def test_comment_and_retry_are_no_events(body: str, milliseconds: int, text: str) -> None:
    """They may stand anywhere between events and change none."""
    around = sse.comment(text) + sse.retry(milliseconds)
    decoder = Decoder().interpret(around + sse.event(body.encode()) + around + b"\n")
    assert decoder.dispatched == [("message", body, "")]
    assert decoder.reconnection_time == milliseconds


def test_ping_is_an_event_that_a_page_can_see() -> None:
    """It is no comment, and has no id, so that the cursor stays."""
    before = sse.event(b"1", id="1-0")
    assert Decoder().interpret(before + sse.PING).dispatched == [
        ("message", "1", "1-0"),
        ("ping", "{}", "1-0"),
    ]


texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\r\n\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"),
    ),
    min_size=1,
)


@given(texts, st.none() | texts, texts)
def test_message_never_breaks_a_client_that_splits_at_unicode_line_ends(
    text: str, author: str | None, pod: str
) -> None:
    """Python's `splitlines` splits at eleven characters; the frame has only its own LFs."""
    message = Message(EntryId(1, 0), author, text, pod)
    lines = LogEntry.encode(message).frame.decode().splitlines()
    assert lines == ["id: 1-0", f"data: {message.json().decode()}", ""]
    assert json.loads(lines[1].removeprefix("data: "))["text"] == text


@given(texts)
def test_client_reads_the_text_that_was_posted(typed: str) -> None:
    """After normalising, encoding, framing and decoding."""
    try:
        new = NewMessage.parse(typed)
    except InvalidMessageError:
        return
    frame = LogEntry.encode(Message(EntryId(5, 7), None, new.text, "pod-a")).frame
    ((name, body, last_id),) = Decoder().interpret(frame).dispatched
    assert (name, last_id) == ("message", "5-7")
    assert json.loads(body)["text"] == new.text
