"""Bodies of requests: from bytes to checked JSON, in every format. No I/O."""

import json
import re
from typing import Any, Final, TypeVar

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.wire.places import Places

__all__ = ["decode"]

_T = TypeVar("_T")


def decode(decoder: msgspec.json.Decoder[_T], body: bytes, places: Places) -> _T:
    """The body, which is JSON in UTF-8 (RFC 8259), as the type of ``decoder``.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent. Duplicate keys are refused: a proxy in front may have read the other one.
    """
    try:
        try:
            parsed = decoder.decode(body)
        except (msgspec.ValidationError, UnicodeError):
            raise
        except msgspec.DecodeError as exc:
            if "UTF-8" in str(exc):  # msgspec 0.23; before, it was a UnicodeDecodeError
                body.decode()
            body = _mend_surrogates(body)
            parsed = decoder.decode(body)
        _unique.decode(body.decode())
    except InvalidRequest:
        raise
    except msgspec.ValidationError as exc:
        raise places.explain(exc) from None
    except UnicodeError:
        raise InvalidRequest("The body must be valid UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body has too many levels of nesting.") from None
    except (msgspec.DecodeError, ValueError):
        raise InvalidRequest("The body is not valid JSON.") from None
    return parsed


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("A key stands twice in one JSON object.")
    return found


_unique: Final = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _mend_surrogates(body: bytes) -> bytes:
    """The body with U+FFFD for each half of a surrogate pair. Clients that cut text by UTF-16
    units send halves, which msgspec refuses and Python's own decoder takes.
    """
    if not _SURROGATE.search(body):
        return body
    text = json.dumps(_unique.decode(body.decode()), ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
