"""JSON of Server-Sent Events: on one line, and from any text. No I/O."""

from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["json_of", "lines_of"]

_json: Final = msgspec.json.Encoder()


def json_of(value: object) -> bytes:
    """A value as JSON on one line. Halves of surrogate pairs, which UTF-8 has no bytes for, become
    "?".
    """
    try:
        return _json.encode(value)
    except UnicodeEncodeError:
        return _json.encode(_mended(value))


def lines_of(texts: Sequence[str], before: bytes, after: bytes) -> bytes:
    """The JSON of texts that came together, each between ``before`` and ``after``, all at once:
    JSON has no LF of its own.
    """
    try:
        lines = _json.encode_lines(texts)
    except UnicodeEncodeError:
        lines = b"".join([json_of(text) + b"\n" for text in texts])
    return (before + lines.replace(b"\n", after + before)).removesuffix(before)


def _mended(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_mended(key): _mended(each) for key, each in value.items()}
        case list() | tuple():
            return [_mended(each) for each in value]
        case _:
            return value
