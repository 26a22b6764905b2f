"""Places: the places of a JSON body, the values that they must have, and the errors. No I/O.

An error never repeats what was sent. The messages of msgspec do, so only known places are taken
from them.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.errors import InvalidRequest

__all__ = ["Places", "names_of", "quoted"]

_INDEX: Final = re.compile(r"\[\d{1,6}\]")
_PLACE: Final = re.compile(r"- at `\$\.?([\w.\[\]]{0,120})`$", re.ASCII)


class Places:
    """The places of the bodies of one format.

    ``expected`` has the value that each place must have, such as "a string". Places are written as
    ``messages[].content``: ``[]`` stands for a number in brackets, and the empty text for the body.
    ``fields`` has the names of the fields of each object.
    """

    def __init__(self, expected: Mapping[str, str], fields: Mapping[str, str]) -> None:
        self._expected = expected
        self._fields = fields

    def explain(self, exc: msgspec.ValidationError) -> InvalidRequest:
        """The error of a body that has not the right types."""
        text = str(exc)
        match = _PLACE.search(text)
        place = match[1] if match else ""
        if _INDEX.sub("[]", place) not in self._expected:  # it may be the client's text
            place = ""
        if text.startswith("Object contains unknown field"):
            where = f"{place}: " if place else ""
            fields = self._fields.get(_INDEX.sub("[]", place), self._fields[""])
            return InvalidRequest(f"{where}there is a field that is not one of {fields}.")
        if text.startswith("Object missing required field"):
            # this is the name of a known field, never the client's text
            field = text.split("`")[1]
            place = f"{place}.{field}" if place else field
        return self.wrong(place)

    def wrong(self, place: str) -> InvalidRequest:
        """The error of a place that has not what belongs there."""
        expected = self._expected.get(_INDEX.sub("[]", place), self._expected[""])
        return InvalidRequest(f"{place or 'The body'}: must be {expected}.")


def names_of(*kinds: type[msgspec.Struct]) -> str:
    """The names of the fields of these kinds of objects."""
    return ", ".join(
        dict.fromkeys(name for kind in kinds for name in kind.__struct_encode_fields__)
    )


def quoted(names: tuple[str, ...]) -> str:
    """Names as alternatives: 'a', 'b' or 'c'."""
    return ", ".join(f"'{name}'" for name in names[:-1]) + f" or '{names[-1]}'"
