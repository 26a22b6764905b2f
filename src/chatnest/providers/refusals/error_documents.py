"""read_refusal: the status, names and waits in an upstream's error document. No I/O.

Servers and gateways wrap errors in many shapes. Their texts are matched with a table of words and
with the fields of our requests. No text is kept or shown.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chatnest.providers.refusals.waits import duration, reset_in, retry_after, words_wait

__all__ = ["FIELDS", "Refusal", "names_error", "read_refusal"]

FIELDS: Final = (
    *("max_completion_tokens", "max_tokens", "messages", "model", "reasoning_effort", "stream"),
    *("stream_options", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"),
    *("stop", "parallel_tool_calls", "response_format", "reasoning_content"),
    *(
        "include",
        "max_output_tokens",
        "reasoning.effort",
        "reasoning.summary",
        "reasoning",
        "store",
    ),
)
"""Fields of our requests that a server may reject."""

_MOST_VALUES: Final = 200
_MOST_WORDS: Final = 4_096
_DEEPEST: Final = 8
_LONGEST_NAME: Final = 128

_INSIDE: Final = {
    *("base_resp", "body", "cause", "choices", "data", "detail", "details", "error", "errors"),
    "fault",
    *("header", "headers", "innererror", "message", "metadata", "raw", "response"),
}
"""Keys whose values may contain more of the error. Servers repeat a client's request under other
keys, which are not read.
"""
_NAMES: Final = {
    *("code", "err_code", "error_code", "error_type", "errorcode", "errortype", "kind"),
    *("reason", "status", "status_code", "statuscode", "type", "__type"),
}
_WORDS: Final = {
    *("description", "detail", "error", "error_description", "error_message", "error_msg"),
    *("errormessage", "errors", "faultstring", "message", "msg", "raw", "status_msg", "title"),
}
_WAITS: Final = {
    "estimated_time": 1.0,
    "retry_after": 1.0,
    "retry_after_ms": 1e-3,
    "retry_after_seconds": 1.0,
    "retryafter": 1.0,
    "retrydelay": 1.0,
}
_FIELD: Final = re.compile(rf"(?<![a-z_])({'|'.join(map(re.escape, FIELDS))})(?![a-z_])")
_ORDINARY: Final = {
    *("include", "messages", "model", "reasoning", "seed", "stop", "store", "stream"),
}
"""Fields whose names are ordinary words."""
_NO_LETTER: Final = re.compile("[^a-z0-9]")
_STATUSES: Final = range(400, 600)


class Refusal(msgspec.Struct, frozen=True):
    """The facts in an error document. ``status`` is 0 if it has none. ``names`` are codes and types
    in lower case without punctuation. ``code`` is the code, or else the first name, unchanged.
    ``param`` is a field of our request, or empty. ``words`` are lower-case text to match with a
    table, and must not be shown or logged.
    """

    status: int = 0
    names: frozenset[str] = frozenset()
    code: str = ""
    param: str = ""
    words: str = ""
    wait: float | None = None

    def __repr__(self) -> str:
        return f"Refusal(status={self.status}, param={self.param!r})"


def read_refusal(document: object) -> Refusal:
    """The facts in ``document``: decoded JSON, or any bytes."""
    if isinstance(document, bytes):
        document = _decoded(document)
    found = _Found()
    found.read(document, "error")
    words = " ".join(found.words)[:_MOST_WORDS].lower()
    return Refusal(
        status=found.status,
        names=frozenset(filter(None, map(plain, found.names))),
        code=found.code or next(iter(found.names), ""),
        param=found.param or _named_in(words),
        words=words,
        wait=words_wait(words) if found.wait is None else found.wait,
    )


def names_error(document: Mapping[str, Any]) -> bool:
    """Whether an object without choices has a field that reports an error."""
    if any(
        document.get(key)
        for key in ("error", "errors", "error_type", "error_message", "error_msg", "error_code")
    ):
        return True
    if document.get("object") == "error" or document.get("type") == "error":
        return True
    if "error" in document and document["error"] is not None:
        return True
    base = document.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        return True
    if isinstance(document.get("fault"), dict) or document.get("detail"):
        return True
    return any(
        _status(document.get(key)) for key in ("code", "status", "status_code", "statusCode")
    )


def plain(name: str) -> str:
    """A name in comparable form: ``litellm.RateLimitError`` becomes ``ratelimiterror``."""
    last = re.split("[./#:]", name.strip())[-1]
    return _NO_LETTER.sub("", last.lower())


class _Found:
    """The facts that were found so far in a document."""

    def __init__(self) -> None:
        self.status = 0
        self.code = ""
        self.names: list[str] = []
        self.words: list[str] = []
        self.param = ""
        self.wait: float | None = None
        self._left = _MOST_VALUES

    def read(self, value: object, key: str, depth: int = 0) -> None:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return
        if isinstance(value, dict):
            if key == "headers":
                self._read_fields(value)
                return
            if key in _INSIDE:
                for name, inner in value.items():
                    self.read(inner, str(name).lower(), depth + 1)
        elif isinstance(value, list):
            if key == "loc":
                self._read_param(value[-1] if value else None)
            elif key in _INSIDE:
                for inner in value:
                    self.read(inner, key, depth + 1)
        else:
            self._read_value(value, key, depth)

    def _read_value(self, value: object, key: str, depth: int) -> None:
        if key == "code" and isinstance(value, str | int) and not isinstance(value, bool):
            self.code = self.code or str(value)[:_LONGEST_NAME]
        if key in _NAMES and (status := _status(value)):
            self.status = self.status or status
        elif key in _NAMES and isinstance(value, str) and value not in {"", "error"}:
            self.names.append(value[:_LONGEST_NAME])
        if key == "param":
            self._read_param(value)
        if key in _WAITS and self.wait is None and (seconds := duration(value)) is not None:
            self.wait = seconds * _WAITS[key]
        if key in _WORDS and isinstance(value, str):
            inner = _decoded(value[:_MOST_WORDS].encode("utf-8", "replace"))
            if isinstance(inner, dict | list):  # a gateway passes on the document that it got
                self.read(inner, "error", depth + 1)
            else:
                self.words.append(value[:_MOST_WORDS])

    def _read_param(self, value: object) -> None:
        name = value if isinstance(value, str) else ""
        name = name if name in FIELDS else re.split(r"[.\[]", name)[0]
        if name in FIELDS:
            self.param = self.param or name

    def _read_fields(self, fields: dict[Any, Any]) -> None:
        headers = {str(name).lower(): str(value) for name, value in fields.items()}
        seconds = retry_after(headers)
        self.wait = reset_in(headers) if seconds is None else seconds


def _named_in(words: str) -> str:
    """The only field of our request in a sentence, or empty. Ordinary words do not count."""
    names = set(_FIELD.findall(words)) - _ORDINARY
    return names.pop() if len(names) == 1 else ""


def _status(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) == 3:  # noqa: PLR2004
        value = int(value)
    known = isinstance(value, int) and not isinstance(value, bool) and value in _STATUSES
    return value if known and isinstance(value, int) else 0


def _decoded(document: bytes) -> Any:
    """The decoded JSON, or the text if it is not JSON; empty for HTML."""
    text = document.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.lstrip().startswith("<") else text[:_MOST_WORDS]
