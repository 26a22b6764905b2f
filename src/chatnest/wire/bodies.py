"""Bodies of requests: from bytes to checked JSON, in every format. No I/O."""

import json
import re
from typing import Any, Final, TypeVar

import msgspec

from chatnest.asgi.data_urls import SMALL_BODY, DataUrls
from chatnest.errors import InvalidRequest
from chatnest.wire.places import Places

__all__ = ["decode", "left_out"]

_T = TypeVar("_T")


def decode(
    decoder: msgspec.json.Decoder[_T], body: bytes, places: Places
) -> tuple[_T, DataUrls | None]:
    """The body, which is JSON in UTF-8 (RFC 8259), as the type of ``decoder``. The images of a
    large body are not in it: its second part has them.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent. Duplicate keys are refused: a proxy in front may have read the other one.
    """
    urls = None
    if len(body) > SMALL_BODY:
        urls = DataUrls(body)
        body = urls.rest
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
    return parsed, urls


def left_out(place: str) -> InvalidRequest:
    """The error of a body with an image that no part of a message has taken. ``place`` is the field
    of the messages.
    """
    return InvalidRequest(
        f"{place}: must have each data: URL as the image_url of a part of its own."
    )


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
