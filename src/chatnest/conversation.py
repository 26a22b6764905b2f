"""Messages and their parts, and the requests that carry them. No I/O."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter, eq
from typing import Final, Literal, assert_never

import msgspec

from chatnest.errors import InvalidRequest

__all__ = [
    "MAX_CONVERSATION",
    "NO_QUESTION",
    "ChatRequest",
    "Message",
    "ModelRequest",
    "Part",
    "Role",
    "Text",
    "is_conversation",
    "joined",
]

Role = Literal["system", "user", "assistant"]


MAX_CONVERSATION: Final = 256
"""Maximum characters of a conversation's id."""


NO_QUESTION: Final = "messages: at least one must be the user's."
"""The detail of the error for a request without a message of the user."""


class Text(msgspec.Struct, frozen=True, gc=False):
    """Text of a message, never empty. It is not in the repr, which may end up in a log."""

    text: str

    def __repr__(self) -> str:
        return f"Text(<{len(self.text)} characters>)"


Part = Text
"""A part of a message: a closed union, so far with one member. ``match`` it, and end with
``assert_never``: then mypy finds each place that a new kind of part concerns.
"""


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation: a role, and at least one part.

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
        texts: list[str] = []
        for part in self.parts:
            match part:
                case Text(text=text):
                    texts.append(text)
                case _:
                    assert_never(part)
        return texts[0] if len(texts) == 1 else "".join(texts)

    def __repr__(self) -> str:
        return f"Message({self.role!r}, <{len(self.text)} characters>)"


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request: at least one message of the user, none of the system. Only a LookUp has
    no messages.

    ``profile`` is a name in its current form, or None for the default. The two limits are
    positive and can only lower the limits of the profile. ``system_prompt`` is the client's; the
    operator decides whether it is used. ``usage_event`` requests the cost in the stream.
    ``linger`` is the seconds for which an answer continues without a reader. ``conversation`` is
    the client's id of the conversation. The repr has neither it nor the messages.

    Raises InvalidRequest for a message of the system, and if no message is the user's.
    """

    messages: tuple[Message, ...]
    profile: str | None = None
    daily_token_limit: int | None = None
    max_tokens_per_request: int | None = None
    system_prompt: str | None = None
    usage_event: bool = False
    linger: float | None = None
    conversation: str | None = None

    def __post_init__(self) -> None:
        roles = {message.role for message in self.messages}
        if not roles <= {"user", "assistant"}:  # messages of the system are the operator's
            raise InvalidRequest("messages: expected the roles 'user' and 'assistant'.")
        if roles and "user" not in roles:
            raise InvalidRequest(NO_QUESTION)

    def __repr__(self) -> str:
        roles = ", ".join(message.role for message in self.messages)
        return f"ChatRequest({len(self.messages)} messages: {roles})"


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the model: the conversation, with the messages of the system first, and the
    bounds of the answer. A dialect makes the body of its HTTP request from this value alone.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float


def is_conversation(value: str) -> bool:
    """Whether a text can be a conversation's id: 1 to 256 printable characters, not only spaces."""
    return 0 < len(value) <= MAX_CONVERSATION and value.isprintable() and not value.isspace()


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
    texts: list[str] = []
    for message in messages:
        gap = "\n\n" if texts else ""
        for part in message.parts:
            match part:
                case Text(text=text):
                    texts.append(gap + text)
                    gap = ""
                case _:
                    assert_never(part)
    return (Text("".join(texts)),)
