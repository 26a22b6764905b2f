"""Chunks: the JSON of OpenAI's chat completions API, streamed and whole. No I/O."""

import itertools
import time
from typing import Any

import msgspec

from chatnest.testing.upstream.answers import Answer

__all__ = ["Chunks"]

_json = msgspec.json.encode
_numbers = itertools.count(1)
_PROMPT_TOKENS = 9


class Chunks:
    """The events of one answer, each ready to be written.

    The constant parts of a chunk are encoded once. A chunk then costs about a microsecond, so a
    benchmark measures the server under test and not the fake upstream.
    """

    def __init__(self, answer: Answer, request: dict[str, Any]) -> None:
        options = request.get("stream_options")
        self._wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._answer = answer
        self._eol = b"\r\n" if answer.crlf else b"\n"
        self._id = f"chatcmpl-{next(_numbers):08d}"
        self._created = int(time.time())
        self._model = request.get("model", "fake")
        self._sent = 0
        self._before = self._prefix() + b'{"index":0,"delta":'
        self._between = b',"logprobs":null,"finish_reason":'
        self._key = b'{"refusal":' if answer.refusal else b'{"content":'
        self._after = self._tail()

    def first(self) -> bytes:
        """Return the chunk with the role and no text."""
        empty = self._answer.null_first_delta or self._answer.refusal
        content = b"null" if empty else b'""'
        return self._chunk(b'{"role":"assistant","content":%b,"refusal":null}' % content)

    def piece(self, piece: str) -> bytes:
        """Return the chunk with one piece of text."""
        self._sent += 1
        event = self._chunk(b"%b%b}" % (self._key, _json(piece)))
        return b": waiting" + self._eol * 2 + event if self._answer.comments else event

    def finish(self) -> list[bytes]:
        """Return the events after the last piece: the finish reason, the usage, ``[DONE]``."""
        answer, events = self._answer, []
        if answer.finish_reason is not None:
            events.append(self._chunk(b"{}", _json(answer.finish_reason)))
        if self._wants_usage and answer.usage is not None:
            usage = b'],"usage":' + _json(self.usage()) + b"}" + self._eol * 2
            events.append(self._prefix() + usage)
        return [*events, b"data: [DONE]" + self._eol * 2]

    def usage(self) -> dict[str, int]:
        """Return the usage so far: the answer's, or 9 and the number of pieces sent."""
        usage = self._answer.usage
        prompt, completion = usage if isinstance(usage, tuple) else (_PROMPT_TOKENS, self._sent)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def endless_line(self) -> tuple[bytes, bytes]:
        """Return the start and the end of a chunk, without its content."""
        begin, end = self._chunk(self._key + b'"#"}').split(b"#")
        return begin, end

    def whole(self) -> bytes:
        """Return the body of a response that is not streamed."""
        answer = self._answer
        text = "".join(answer.pieces) * int(answer.repeat)
        self._sent = len(answer.pieces) * int(answer.repeat)
        message = {
            "role": "assistant",
            "content": None if answer.refusal else text,
            "refusal": text if answer.refusal else None,
        }
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        completion = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
        }
        if answer.usage is not None:
            completion["usage"] = self.usage()
        return _json(completion)

    def _chunk(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        tail = self._tail() if self._answer.usage_on_every_chunk else self._after
        return b"%b%b%b%b%b" % (self._before, delta, self._between, finish_reason, tail)

    def _prefix(self) -> bytes:
        names = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b'
        more = b',"service_tier":"default","system_fingerprint":"fp_fake","choices":['
        return names % (_json(self._id), self._created, _json(self._model)) + more

    def _tail(self) -> bytes:
        if self._answer.usage_on_every_chunk:
            usage = b',"usage":' + _json(self.usage())
        else:
            usage = b',"usage":null' if self._wants_usage else b""
        return b"}]" + usage + b"}" + self._eol * 2
