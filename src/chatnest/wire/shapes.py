"""Shapes of Chat Completions: the parts of a request that several formats have in its JSON. No I/O.

They have the types of OpenAI's API, and nothing beside the types is checked here.
"""

from typing import Literal

import msgspec

__all__ = [
    "Sent",
    "SentCall",
    "SentCalled",
    "SentChoice",
    "SentDefinition",
    "SentFunction",
    "SentImage",
    "SentJson",
    "SentName",
    "SentPlain",
    "SentSchema",
    "SentText",
    "SentTool",
    "SentUrl",
]


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An object of a body. JSON has no cycles, so none is left to the garbage collector."""


class SentText(Sent, frozen=True, tag_field="type", tag="text"):
    """A part of a message: text."""

    text: str


class SentUrl(Sent, frozen=True):
    """The address of an image. ``detail`` is ignored: it decides what an image costs."""

    url: str
    detail: str | None = None


class SentImage(Sent, frozen=True, tag_field="type", tag="image_url"):
    """A part of a message: an image."""

    image_url: SentUrl


class SentCalled(Sent, frozen=True):
    """The function of a call."""

    name: str
    arguments: str


class SentCall(Sent, frozen=True):
    """A call of a tool."""

    id: str
    function: SentCalled
    type: Literal["function"] = "function"


class SentFunction(Sent, frozen=True):
    """The function of a tool. ``parameters`` stay as they were written: the model reads them."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    strict: bool | None = None


class SentTool(Sent, frozen=True):
    """A tool."""

    function: SentFunction
    type: Literal["function"] = "function"


class SentName(Sent, frozen=True):
    """The name of a tool."""

    name: str


class SentChoice(Sent, frozen=True):
    """The choice of one tool."""

    function: SentName
    type: Literal["function"] = "function"


class SentPlain(Sent, frozen=True, tag_field="type", tag="text"):
    """Text as the format of the answer."""


class SentJson(Sent, frozen=True, tag_field="type", tag="json_object"):
    """Any JSON object as the format of the answer."""


class SentDefinition(Sent, frozen=True):
    """A JSON schema and its name."""

    name: str
    schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    description: str | None = None
    strict: bool | None = None


class SentSchema(Sent, frozen=True, tag_field="type", tag="json_schema"):
    """A JSON schema as the format of the answer."""

    json_schema: SentDefinition
