"""Body: a request of ``useChat`` as its JSON has it, before anything beside the types is checked.
No I/O.

Fields that are not listed here are ignored, in all objects: users add their own to the body, and
each version of the AI SDK adds some to the parts.
"""

from typing import Literal

import msgspec

__all__ = [
    "Body",
    "SentFunction",
    "SentMessage",
    "SentPart",
    "SentProof",
    "SentSchema",
    "SentTool",
]


class _Sent(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """An object of a body. JSON has no cycles, so none is left to the garbage collector."""


class SentProof(_Sent, frozen=True):
    """The proof of a block of thinking."""

    signature: str | None = None
    provider: str | None = None
    model: str | None = None
    redacted: bool | None = None
    id: str | None = None


class SentMetadata(_Sent, frozen=True):
    """Metadata of a part. The metadata of providers that chatnest has not called is ignored."""

    chatnest: SentProof | None = None


class SentPart(_Sent, frozen=True):
    """A part of any type; ``type`` decides which of the fields count."""

    type: str
    text: str | None = None
    media_type: str | None = None
    url: str | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    state: str | None = None
    input: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    raw_input: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    output: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    error_text: str | None = None
    provider_metadata: SentMetadata | None = None


class SentMessage(_Sent, frozen=True):
    """A UI message."""

    role: Literal["system", "user", "assistant"]
    parts: list[SentPart]
    id: str | None = None


class SentFunction(_Sent, frozen=True):
    """The definition of a tool. ``parameters`` is the word of assistant-ui and of Chat Completions,
    and ``input_schema`` the AI SDK's. Both stay as they were written: the model reads them.
    """

    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    input_schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class SentTool(_Sent, frozen=True):
    """A tool in the form of Chat Completions."""

    function: SentFunction
    type: Literal["function"] = "function"


class SentSchema(_Sent, frozen=True):
    """The fields of a schema that show which library has written it: ``jsonSchema`` is in the
    result of the AI SDK's function of that name, and ``def`` is in a Zod schema.
    """

    json_schema: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    zod: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw, name="def")


class Body(_Sent, frozen=True):
    """The whole body. ``system`` is assistant-ui's name for the system prompt."""

    messages: list[SentMessage]
    id: str | None = None
    trigger: str | None = None
    message_id: str | None = None
    model: str | None = None
    profile: str | None = None
    max_output_tokens: int | None = None
    system_prompt: str | None = None
    system: str | None = None
    tools: dict[str, SentFunction] | list[SentTool] | None = None
