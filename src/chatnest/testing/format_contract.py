"""FormatContract: tests of every wire format, to run over one of your own."""

from chatnest.errors import (
    BodyTooLarge,
    ChatNestError,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
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
        """The sign by which a client sees the end of the stream, or None before the end."""
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
