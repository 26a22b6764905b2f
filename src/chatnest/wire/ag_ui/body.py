"""Body: a RunAgentInput as its JSON has it, before anything beside the types is checked. No I/O.

Fields that are not here are ignored: clients add some of their own, and later versions more.
"""

from typing import Literal

import msgspec

__all__ = [
    "Body",
    "SentActivity",
    "SentAssistant",
    "SentBinary",
    "SentCall",
    "SentContent",
    "SentContext",
    "SentData",
    "SentFile",
    "SentImage",
    "SentInstructions",
    "SentMedia",
    "SentMessage",
    "SentReasoning",
    "SentText",
    "SentTool",
    "SentToolMessage",
    "SentUrl",
    "SentUser",
]


class _Sent(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """An object of a body. JSON has no cycles, so none is left to the garbage collector."""


class SentText(_Sent, frozen=True, tag_field="type", tag="text"):
    """A part of a message: text."""

    text: str


class SentData(_Sent, frozen=True, tag_field="type", tag="data"):
    """The bytes of a part, in base64."""

    value: str
    mime_type: str


class SentUrl(_Sent, frozen=True, tag_field="type", tag="url"):
    """The address of a part."""

    value: str


class SentFile(_Sent, frozen=True, tag_field="type", tag="file"):
    """A file in an account at a provider."""

    value: str


class SentImage(_Sent, frozen=True, tag_field="type", tag="image"):
    """A part of a message: an image."""

    source: SentData | SentUrl | SentFile


class SentBinary(_Sent, frozen=True, tag_field="type", tag="binary"):
    """A part of a message: any file, in the form that AG-UI had until 0.0.47."""

    mime_type: str
    data: str | None = None
    url: str | None = None


class SentAudio(_Sent, frozen=True, tag_field="type", tag="audio"):
    """A part of a message: sound."""


class SentVideo(_Sent, frozen=True, tag_field="type", tag="video"):
    """A part of a message: moving pictures."""


class SentDocument(_Sent, frozen=True, tag_field="type", tag="document"):
    """A part of a message: a document."""


SentMedia = SentAudio | SentVideo | SentDocument
SentContent = SentText | SentImage | SentBinary | SentMedia


class SentDeveloper(_Sent, frozen=True, tag_field="role", tag="developer"):
    """Instructions for the model."""

    content: str


class SentSystem(_Sent, frozen=True, tag_field="role", tag="system"):
    """Instructions for the model, by their older name."""

    content: str


class SentUser(_Sent, frozen=True, tag_field="role", tag="user"):
    """A message of the user."""

    content: str | list[SentContent]


class SentCalled(_Sent, frozen=True):
    """The function of a call."""

    name: str
    arguments: str


class SentCall(_Sent, frozen=True):
    """A call of a tool."""

    id: str
    function: SentCalled
    type: Literal["function"] = "function"
    encrypted_value: str | None = None


class SentAssistant(_Sent, frozen=True, tag_field="role", tag="assistant"):
    """A message of the model."""

    content: str | None = None
    tool_calls: list[SentCall] | None = None
    encrypted_value: str | None = None


class SentToolMessage(_Sent, frozen=True, tag_field="role", tag="tool"):
    """The result of a call, or the error instead of one."""

    tool_call_id: str
    content: str | list[SentContent]
    error: str | None = None


class SentReasoning(_Sent, frozen=True, tag_field="role", tag="reasoning"):
    """A block of thinking."""

    content: str
    encrypted_value: str | None = None


class SentActivity(_Sent, frozen=True, tag_field="role", tag="activity"):
    """A display of the client beside the conversation."""


SentInstructions = SentDeveloper | SentSystem
SentMessage = (
    SentInstructions | SentUser | SentAssistant | SentToolMessage | SentReasoning | SentActivity
)


class SentTool(_Sent, frozen=True):
    """A tool of the client's. ``parameters`` stay as they were written: the model reads them."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class SentContext(_Sent, frozen=True):
    """A text that the model should know, and its description."""

    description: str
    value: str


class SentProperties(_Sent, frozen=True):
    """The properties that the client forwards. Properties for other servers are ignored."""

    model: str | None = None
    profile: str | None = None
    max_output_tokens: int | None = None


class Body(_Sent, frozen=True):
    """The whole body. ``state`` is the client's own, and the model does not see it."""

    thread_id: str
    run_id: str
    messages: list[SentMessage]
    protocol_version: str | None = None
    parent_run_id: str | None = None
    state: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    tools: list[SentTool] | None = None
    context: list[SentContext] | None = None
    forwarded_props: SentProperties | None = None
    resume: list[msgspec.Raw] | None = None
