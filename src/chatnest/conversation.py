"""Messages and their parts. No I/O."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter, eq
from typing import Literal, assert_never

import msgspec

__all__ = [
    "Image",
    "Message",
    "Part",
    "Reasoning",
    "Refusal",
    "Role",
    "Text",
    "ToolCall",
    "ToolResult",
    "joined",
    "size_of",
]

Role = Literal["system", "user", "assistant", "tool"]


class Text(msgspec.Struct, frozen=True, gc=False):
    """Text of a message, never empty. It is not in the repr, which may end up in a log."""

    text: str

    def __repr__(self) -> str:
        return f"Text(<{len(self.text)} characters>)"


class Image(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An image of the user's: its bytes in base64 (RFC 4648, section 4), and its size in pixels as
    its header has it, or 0 if they are unknown.
    """

    media_type: str
    data: str
    width: int = 0
    height: int = 0

    @property
    def url(self) -> str:
        """The image as a ``data:`` URL (RFC 2397)."""
        return f"data:{self.media_type};base64,{self.data}"

    def __repr__(self) -> str:
        return f"Image({self.media_type!r}, {self.width} x {self.height})"


class ToolCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A call of a tool that the model has made. ``arguments`` is the text that came from the model,
    which is not always JSON. It goes back as it came.
    """

    id: str
    name: str
    arguments: str

    def __repr__(self) -> str:
        return f"ToolCall({self.name!r}, <{len(self.arguments)} characters>)"


class ToolResult(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The result of the tool call with the id ``call_id``, from a tool of the client's."""

    call_id: str
    text: str
    is_error: bool = False

    def __repr__(self) -> str:
        return f"ToolResult(<{len(self.text)} characters>)"


class Reasoning(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A block of the model's thinking. See events.ReasoningSignature for ``signature`` and what
    comes after it. Without a signature, ``provider`` and ``model`` may be empty.
    """

    text: str
    signature: str = ""
    provider: str = ""
    model: str = ""
    redacted: bool = False
    id: str = ""

    def __repr__(self) -> str:
        return f"Reasoning(<{len(self.text)} characters>)"


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The text with which the model refused to answer."""

    text: str

    def __repr__(self) -> str:
        return f"Refusal(<{len(self.text)} characters>)"


Part = Text | Image | ToolCall | ToolResult | Reasoning | Refusal
"""A part of a message: a closed union. ``match`` it, and end with ``assert_never``: then mypy finds
each place that a new kind of part concerns.
"""


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation: a role, and at least one part.

    A message of the role ``tool`` has ToolResults alone. The other parts of the model's side are
    in messages of the assistant, and images in those of the user.

    Raises TypeError if ``parts`` is not a tuple.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if type(self.parts) is not tuple:
            raise TypeError(
                f"parts: expected a tuple of parts, got {type(self.parts).__name__}. "
                "Message.of(role, text) makes a message of one text."
            )

    @classmethod
    def of(cls, role: Role, text: str) -> "Message":
        """A message that consists of one text."""
        return cls(role, (Text(text),))

    @property
    def text(self) -> str:
        """The text of all its Text parts."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # nearly always
            return parts[0].text
        return "".join([part.text for part in parts if isinstance(part, Text)])

    @property
    def size(self) -> int:
        """The characters of all its parts, without images."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # nearly always
            return len(parts[0].text)
        return sum(map(size_of, parts))

    def __repr__(self) -> str:
        kinds = ", ".join(map(repr, self.parts))
        return f"Message({self.role!r}, {kinds})"


def size_of(part: Part) -> int:
    """The characters of a part, which the model reads. An Image has none."""
    match part:
        case Text() | ToolResult() | Refusal():
            return len(part.text)
        case ToolCall():
            return len(part.name) + len(part.arguments)
        case Reasoning():
            return len(part.text) + len(part.signature)
        case Image():
            return 0
        case _:
            assert_never(part)


def joined(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same conversation with neighbouring messages of one role in one message.

    The chat templates of many models reject two user messages in a row. A client sends them after
    an answer that was stopped before its first token. No text is left out.
    """
    roles = list(map(attrgetter("role"), messages))
    if not any(map(eq, roles, roles[1:])):
        return messages
    by_role = groupby(messages, attrgetter("role"))
    return tuple([Message(role, _joined_parts(same)) for role, same in by_role])


def _joined_parts(messages: Iterable[Message]) -> tuple[Part, ...]:
    """The parts of several messages, with a blank line between the texts of two messages."""
    parts: list[Part] = []
    texts: list[str] = []
    for message in messages:
        gap = "\n\n" if texts else ""
        for part in message.parts:
            if isinstance(part, Text):
                texts.append(gap + part.text)
                gap = ""
                continue
            if texts:
                parts.append(Text("".join(texts)))
                texts.clear()
            parts.append(part)
            gap = ""
    if texts:
        parts.append(Text("".join(texts)))
    return tuple(parts)
