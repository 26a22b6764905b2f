"""JSON of Server-Sent Events: on one line, and from any text. No I/O."""

from typing import Final

import msgspec

__all__ = ["json_of"]

_json: Final = msgspec.json.Encoder()


def json_of(value: object) -> bytes:
    """A value as JSON on one line. Halves of surrogate pairs, which UTF-8 has no bytes for, become
    "?".
    """
    try:
        return _json.encode(value)
    except UnicodeEncodeError:
        return _json.encode(_mended(value))


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
