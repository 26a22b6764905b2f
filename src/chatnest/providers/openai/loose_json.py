"""loads: JSON as servers write it. No I/O."""

import json
from typing import Any

import msgspec

from chatnest.errors import UpstreamBadResponse

__all__ = ["loads"]


def loads(payload: bytes | msgspec.Raw) -> Any:
    """Decode with the standard library, which accepts halves of surrogate pairs and NaN, as
    JavaScript and Python write them. Raises UpstreamBadResponse.
    """
    try:
        return json.loads(bytes(payload), parse_constant=str)
    except (ValueError, RecursionError) as exc:
        raise UpstreamBadResponse from exc
