"""FormatContract: tests of every wire format, to run over one of your own."""

from chatnest.errors import (
    BodyTooLarge,
    ChatNestError,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    LimitExceeded,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServerShutdown,
    Unauthenticated,
    UpstreamInterrupted,
    UpstreamTimeout,
)
from chatnest.events import ClientEvent, Delta, Done, Failed, Numbered, Ping, Start, Usage
from chatnest.requests import ChatRequest
from chatnest.wire.base import Frames, StreamInfo, WireFormat

# ruff: noqa: S101  # these are tests

__all__ = ["FormatContract"]

_CANARY = "do-not-repeat-me"
_BODIES = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"%b"' % _CANARY.encode(),
    b'{"%b": 1}' % _CANARY.encode(),
    b"{",
    b"\xff\xfe",
    b"[" * 10_000,
)
_TEXTS = ("Good", " ", "\n\n", "\r\n", "data: [DONE]\n\nevent: done\n", "\u2028", '"}', "é😀", "\0")
_HOSTILE = (
    *('"', "'", "\\", "`", "<!--", "</script>", "]]>", "{", "[DONE]"),
    *map(chr, (*range(32), 0x7F, 0x85, 0xA0, 0x2028, 0x2029, 0xFEFF, 0xFFFF, 0x10FFFF)),
    *("\n\n", "\r\n\r\n", "data: [DONE]\n\n", "event: done\ndata: \n\n", "id: 9\n", "0\r\n\r\n"),
)
"""Text of a model that must not be taken for anything else."""
_HALF = "\ud83d"
"""Half of a surrogate pair, which UTF-8 has no bytes for. A model may send it."""
_NUMBERS = (1, 2, 10, 1_000_000_007)
_USAGE = Usage(9, 4)
_ERRORS: tuple[ChatNestError, ...] = (
    InvalidRequest("messages: expected a list."),
    Unauthenticated(),
    NotFound(),
    BodyTooLarge(1),
    InternalError(),
    LedgerUnavailable(),
    Overloaded(),
    ServerShutdown(),
    UpstreamInterrupted(),
    UpstreamTimeout(),
)
_REFUSALS: tuple[ChatNestError, ...] = (
    Unauthenticated('Bearer realm="chat"'),
    MethodNotAllowed("GET", "DELETE"),
    LimitExceeded("r", unit="requests", window=60, wait=1.5, headers={"RateLimit": '"r";r=0;t=2'}),
)
"""Errors with header fields of their own."""


class FormatContract:
    """Tests of a wire format. You define ``make``, the ``body`` of a request that the format takes,
    and how its client reads a stream.
    """

    body: bytes

    def make(self) -> WireFormat:
        """A new object of the format."""
        raise NotImplementedError

    def text(self, stream: bytes) -> str:
        """The text that a client shows after these bytes."""
        raise NotImplementedError

    def ending(self, stream: bytes) -> object:
        """The sign by which a client sees the end of the stream, or None before the end. ``stream``
        may be cut after any event.
        """
        raise NotImplementedError

    # ------------------------------------------------ the tests

    def test_a_request_is_parsed(self) -> None:
        request = self.make().parse(self.body, {})

        assert isinstance(request, ChatRequest)
        assert request.messages, "a chat needs a message"

    def test_an_invalid_body_is_refused_and_never_repeated(self) -> None:
        for body in _BODIES:
            refusal = ""
            try:
                self.make().parse(body, {})
            except InvalidRequest as exc:
                refusal = str(exc)
            assert refusal, f"{body[:20]!r} was not refused"
            assert _CANARY not in refusal

    def test_the_text_arrives_unchanged(self) -> None:
        assert self.text(self._stream(*map(Delta, _TEXTS))) == "".join(_TEXTS)

    def test_the_cut_of_writes_makes_no_difference(self) -> None:
        events: list[ClientEvent] = [Start(), *map(Delta, _TEXTS), Done("stop", _USAGE)]
        frames = self._frames()
        one_by_one = b"".join(frames.encode([event]) for event in events)

        assert self.text(one_by_one) == self.text(self._frames().encode(events))

    def test_pings_do_not_change_the_text(self) -> None:
        stream = self._stream(Delta("Good"), Ping(), Delta(" bread"), Ping())

        assert self.text(stream) == "Good bread"

    def test_a_run_has_the_same_text(self) -> None:
        pieces = [Numbered(n, Delta(text)) for n, text in enumerate(_TEXTS, 1)]
        last = Numbered(len(_TEXTS) + 1, Done("stop", _USAGE))

        assert self.text(self._frames().encode([Start(), *pieces, last])) == "".join(_TEXTS)

    def test_any_number_leaves_the_event_as_it_is(self) -> None:
        for number in _NUMBERS:
            piece, endings = Numbered(number, Delta("Good")), list[object]()
            for last in (Done("stop", _USAGE), Failed(UpstreamInterrupted())):
                stream = self._frames().encode([Start(), piece, Numbered(number + 1, last)])
                assert self.text(stream) == "Good", number
                endings.append(self.ending(stream))
            whole, failed = endings
            assert whole is not None, number
            assert failed is not None, number
            assert whole != failed, number

    def test_hostile_text_arrives_unchanged_and_ends_nothing(self) -> None:
        done, failed = Done("stop", _USAGE), Failed(UpstreamInterrupted())
        whole = self.ending(self._stream(Delta("Good")))
        frames = [self._frames().encode([Start(), Delta("Good"), last]) for last in (done, failed)]
        for text in (*_HOSTILE, *(frame.decode("utf-8", "replace") for frame in frames)):
            for piece in (Delta(text), Numbered(7, Delta(text))):
                encoder = self._frames()
                begun = encoder.encode([Start(), piece])
                assert self.text(begun) == text, repr(text)
                assert self.ending(begun) is None, f"{text!r} ends the answer"
                stream = begun + encoder.encode([piece, done])
                assert self.text(stream) == text + text, repr(text)
                assert self.ending(stream) == whole, repr(text)

    def test_half_a_character_is_not_a_fault(self) -> None:
        stream = self._stream(Delta("Good"), Delta(_HALF), Delta(" bread"))
        text = self.text(stream)

        assert text.startswith("Good")
        assert text.endswith(" bread")
        assert self.ending(stream) is not None

    def test_the_rest_of_a_run_is_a_stream_of_its_own(self) -> None:
        piece, last = Numbered(7, Delta(" bread")), Numbered(8, Done("stop", _USAGE))

        assert self.text(self._frames().encode([Start(), piece, last])) == " bread"

    def test_a_client_sees_the_end(self) -> None:
        for reason in ("stop", "length", "content_filter"):
            stream = self._stream(Delta("Good"), last=Done(reason, _USAGE))
            assert self.ending(stream) is not None, reason

    def test_a_failure_does_not_look_like_the_end_of_a_whole_answer(self) -> None:
        whole = self.ending(self._stream(Delta("Good")))
        for error in _ERRORS:
            ending = self.ending(self._stream(Delta("Good"), last=Failed(error)))
            assert ending is not None, error.code
            assert ending != whole, error.code

    def test_an_error_before_the_stream_has_a_status_and_a_body(self) -> None:
        for error in _ERRORS:
            problem = self.make().problem(error, request_id="0" * 32, charged=False)
            assert 400 <= problem.status <= 599, error.code  # noqa: PLR2004  # RFC 9110
            assert problem.media_type, error.code
            assert problem.body, error.code

    def test_the_header_fields_of_an_error_are_sent(self) -> None:
        for error in _REFUSALS:
            problem = self.make().problem(error, request_id="0" * 32, charged=False)
            sent = {name.lower(): value for name, value in problem.headers.items()}
            for name, value in error.headers.items():
                assert sent.get(name.lower()) == value, f"{error.code}: {name}"
            if error.retry_after is not None:
                wait = sent.get("retry-after", "")
                assert wait.isdecimal(), f"{error.code}: Retry-After in whole seconds"
                assert int(wait) >= error.retry_after, f"{error.code}: Retry-After is too early"

    def test_the_path_is_one(self) -> None:
        path = self.make().path

        assert not path or (path.startswith("/") and not path.endswith("/"))

    def test_encoders_share_nothing(self) -> None:
        info, one = StreamInfo(request_id="0" * 32, model="m"), self.make()
        first, second = one.frames(info), one.frames(info)
        begun = first.encode([Start(), Delta("Good")])
        whole = second.encode([Start(), Delta("Good")])
        rest = first.encode([Done("stop", _USAGE)])

        assert self.text(begun + rest) == self.text(whole + second.encode([Done("stop", _USAGE)]))

    # ------------------------------------------------ inside

    def _frames(self) -> Frames:
        return self.make().frames(StreamInfo(request_id="0" * 32, model="m"))

    def _stream(self, *events: ClientEvent, last: Done | Failed | None = None) -> bytes:
        return self._frames().encode([Start(), *events, last or Done("stop", _USAGE)])
