"""The contract of wire formats finds faults: each of its tests fails a format with one fault."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chatnest import ChatRequest, Document, Message
from chatnest.errors import InvalidRequest
from chatnest.events import ClientEvent, Delta, Done, Failed, Numbered, Ping
from chatnest.testing import FormatContract
from tests.test_formats import LINES

Encode = Callable[[ClientEvent], bytes]
Wrong = Callable[[ClientEvent, Encode], bytes]


def line(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"


def framing(wrong: Wrong) -> type:
    """The format of the page, with frames by ``wrong(event, right)``."""

    class Frames(LINES.LineFrames):  # type: ignore[misc, name-defined]  # the page's own
        def _frame(self, event: ClientEvent) -> bytes:
            return wrong(event, super()._frame)

    return type("Framing", (LINES.Lines,), {"frames": lambda self, info: Frames()})


def parsing(wrong: Callable[[bytes], ChatRequest]) -> type:
    return type("Parsing", (LINES.Lines,), {"parse": lambda self, body, head: wrong(body)})


def reporting(wrong: Callable[[Document, Any], Document]) -> type:
    """The format of the page, with problems by ``wrong(right, error)``."""

    class Reporting(LINES.Lines):  # type: ignore[misc, name-defined]  # the page's own
        def problem(self, error: Any, *, request_id: str, charged: bool) -> Document:
            return wrong(super().problem(error, request_id=request_id, charged=charged), error)

    return Reporting


def document(right: Document, **changes: Any) -> Document:
    fields: dict[str, Any] = {
        "status": right.status,
        "media_type": right.media_type,
        "body": right.body,
        "headers": right.headers,
    }
    return Document(**fields | changes)


def without(field: str) -> type:
    """Its errors have every header field but one."""
    return reporting(
        lambda right, error: document(
            right, headers={k: v for k, v in right.headers.items() if k.lower() != field}
        )
    )


def repeating(body: bytes) -> ChatRequest:
    try:
        return ChatRequest(messages=(Message.of("user", json.loads(body)["question"]),))
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidRequest(f"question: got {body!r}.") from exc


def lenient(body: bytes) -> ChatRequest:
    return ChatRequest(messages=(Message.of("user", body.decode("utf-8", "replace") or "Hi"),))


def raw(event: ClientEvent, right: Encode) -> bytes:
    """Text as it is, between quotes."""
    if isinstance(event, Delta):
        return b'{"text": "%b"}\n' % event.text.encode("utf-8", "replace")
    return right(event)


def bare(event: ClientEvent, right: Encode) -> bytes:
    """Text that is a line of the format already is sent as it is."""
    if isinstance(event, Delta) and event.text.startswith('{"'):
        return event.text.encode()
    return right(event)


def in_utf8(event: ClientEvent, right: Encode) -> bytes:
    if isinstance(event, Delta):
        return json.dumps({"text": event.text}, ensure_ascii=False).encode() + b"\n"
    return right(event)


class FirstOnly(LINES.LineFrames):  # type: ignore[misc, name-defined]  # the page's own
    def encode(self, events: Any) -> bytes:
        return b"".join(map(self._frame, events[:2]))


class Counting(LINES.LineFrames):  # type: ignore[misc, name-defined]  # the page's own
    """Its encoders are one: it frames the first piece of all of them, and no others."""

    seen = 0

    def _frame(self, event: ClientEvent) -> bytes:
        if isinstance(event, Delta):
            self.seen += 1
            if self.seen > 1:
                return b""
        return bytes(super()._frame(event))


class Shared(LINES.Lines):  # type: ignore[misc, name-defined]  # the page's own
    def __init__(self) -> None:
        self._one = Counting()

    def frames(self, info: Any) -> Any:
        return self._one


def is_of(event: ClientEvent, kind: type, number: int | None = None) -> bool:
    """Whether it is a numbered event of the kind, with the number if one is given."""
    return (
        isinstance(event, Numbered)
        and isinstance(event.event, kind)
        and number in {None, event.number}
    )


def but(kind: type, frame: bytes = b"") -> Wrong:
    """Frames of one kind of event are ``frame``."""
    return lambda event, right: frame if isinstance(event, kind) else right(event)


FAULTS: dict[str, list[type]] = {
    "test_a_request_is_parsed": [
        parsing(lambda body: ChatRequest(messages=())),
        parsing(lambda body: None),  # type: ignore[arg-type, return-value]
    ],
    "test_an_invalid_body_is_refused_and_never_repeated": [parsing(lenient), parsing(repeating)],
    "test_the_text_arrives_unchanged": [
        framing(lambda e, right: line({"text": e.text.strip()}) if type(e) is Delta else right(e)),
        framing(raw),
    ],
    "test_the_cut_of_writes_makes_no_difference": [
        type("FirstOnlies", (LINES.Lines,), {"frames": lambda self, info: FirstOnly()})
    ],
    "test_pings_do_not_change_the_text": [framing(but(Ping, line({"text": "."})))],
    "test_a_run_has_the_same_text": [
        framing(lambda e, right: b"" if is_of(e, Delta) else right(e)),
        framing(lambda e, right: right(e) * (2 if is_of(e, Delta) else 1)),
    ],
    "test_any_number_leaves_the_event_as_it_is": [
        framing(lambda e, right: b"" if isinstance(e, Numbered) and e.number > 9 else right(e)),
        framing(lambda e, right: b"" if is_of(e, Done) else right(e)),
        framing(lambda e, right: b"" if is_of(e, Failed) else right(e)),
        framing(lambda e, right: line({"end": "stop"}) if is_of(e, Failed) else right(e)),
        framing(
            lambda e, right: bytes([e.number]) and right(e) if type(e) is Numbered else right(e)
        ),
    ],
    "test_the_rest_of_a_run_is_a_stream_of_its_own": [
        framing(lambda e, right: b"" if is_of(e, Delta, 7) else right(e)),
    ],
    "test_hostile_text_arrives_unchanged_and_ends_nothing": [framing(raw), framing(bare)],
    "test_half_a_character_is_not_a_fault": [framing(in_utf8)],
    "test_a_client_sees_the_end": [
        framing(but(Done)),
        framing(lambda e, r: b"" if type(e) is Done and e.finish_reason == "length" else r(e)),
    ],
    "test_a_failure_does_not_look_like_the_end_of_a_whole_answer": [
        framing(but(Failed)),
        framing(but(Failed, line({"end": "stop"}))),
    ],
    "test_an_error_before_the_stream_has_a_status_and_a_body": [
        reporting(lambda right, error: document(right, status=200)),
        reporting(lambda right, error: document(right, body=b"")),
        reporting(lambda right, error: document(right, media_type="")),
    ],
    "test_the_header_fields_of_an_error_are_sent": [
        without("allow"),
        without("www-authenticate"),
        without("ratelimit"),
        without("retry-after"),
        reporting(lambda right, _: document(right, headers={**right.headers, "Retry-After": "1"})),
        reporting(
            lambda right, _: document(right, headers={**right.headers, "Retry-After": "2.5"})
        ),
    ],
    "test_the_path_is_one": [
        type("Ending", (LINES.Lines,), {"path": "/lines/"}),
        type("Bare", (LINES.Lines,), {"path": "lines"}),
    ],
    "test_encoders_share_nothing": [Shared],
}
CASES = [(name, fault) for name, faults in FAULTS.items() for fault in faults]


def passes(name: str, format_: type) -> bool:
    contract = type("Contract", (LINES.TestLines,), {"make": lambda self: format_()})()
    try:
        getattr(contract, name)()
    except Exception:  # noqa: BLE001  # an assertion, or the fault itself
        return False
    return True


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_format_with_a_fault_fails(name: str, fault: type) -> None:
    assert passes(name, LINES.Lines)
    assert not passes(name, fault)


def test_each_test_of_the_contract_has_a_fault() -> None:
    assert set(FAULTS) == {name for name in dir(FormatContract) if name.startswith("test_")}
