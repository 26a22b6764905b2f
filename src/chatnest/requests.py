"""ChatRequest and ModelRequest: the request of a client, and the request to a model. No I/O."""

from operator import attrgetter
from typing import Final, Literal

import msgspec

from chatnest.conversation import Message
from chatnest.errors import InvalidRequest

__all__ = [
    "AUTO",
    "DEFAULT_SAMPLING",
    "MAX_CONVERSATION",
    "NO_QUESTION",
    "PLAIN",
    "ChatRequest",
    "Effort",
    "EventKind",
    "ModelRequest",
    "OutputFormat",
    "Sampling",
    "Submission",
    "Tool",
    "ToolChoice",
    "is_conversation",
]

MAX_CONVERSATION: Final = 256
"""Maximum characters of a conversation's id."""


NO_QUESTION: Final = "at least one must be the user's."
"""The detail of the error for a request without a message of the user."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the client's that the model may call. ``parameters`` is a JSON schema, as the
    text of a JSON object. ``strict`` is whether the arguments must follow it; by default they
    need not, as in Chat Completions.
    """

    name: str
    description: str = ""
    parameters: str = "{}"
    strict: bool | None = None

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools the model may call. ``name`` forces one of them, with the mode ``required``."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None
    parallel: bool | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """JSON as the form of the answer. ``schema`` is the text of a JSON schema; without it, any
    JSON object is valid.
    """

    name: str = "answer"
    schema: str | None = None
    description: str = ""
    strict: bool | None = None

    def __repr__(self) -> str:
        return f"OutputFormat({self.name!r})"


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
"""How much a model should think, from least to most."""


EventKind = Literal["reasoning", "tools", "sources", "usage"]
"""Events of an answer that clients get only if they ask for them."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the model chooses its words. None leaves a value to the profile or the provider."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


AUTO: Final = ToolChoice()
DEFAULT_SAMPLING: Final = Sampling()


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a request that only its format knows. They do not change the answer.

    With ``stream=False`` the client waits for one document. ``may_be_empty`` is whether an answer
    without text is an answer, and no error. ``key`` is an idempotency key that the format makes of
    the request; if ``replays`` is False, the key leads only to an answer that is still running.
    ``note`` is kept with the conversation, for clients that resume its latest run. ``facts`` is
    anything that the frames need.
    """

    stream: bool = True
    may_be_empty: bool = False
    key: str | None = None
    replays: bool = True
    note: str | None = None
    facts: object = None

    def __repr__(self) -> str:
        return "Submission()"


PLAIN: Final = Submission()


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request: at least one message of the user, none of the system. Only a LookUp has
    no messages.

    ``profile`` is a name in its current form, or None for the default. ``model`` is the name that
    the client gave for a model or a profile. The three limits are positive and can only lower the
    limits of the profile. ``system_prompt`` is the client's; the operator decides whether it is
    used. ``usage_event`` requests the cost in the stream, and ``events`` the kinds of additional
    events. ``linger`` is the seconds for which an answer continues without a reader.
    ``conversation`` is the client's id of the conversation. Tools, images, an output format, an
    effort and sampling are refused later if the profile does not allow them. The repr has no
    content.
    ``submission`` has what only the format of the request knows.

    Raises InvalidRequest for a message of the system, and if no message is the user's.
    """

    messages: tuple[Message, ...]
    profile: str | None = None
    model: str | None = None
    daily_token_limit: int | None = None
    max_tokens_per_request: int | None = None
    max_output_tokens: int | None = None
    system_prompt: str | None = None
    usage_event: bool = False
    events: frozenset[EventKind] = frozenset()
    linger: float | None = None
    conversation: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO
    output: OutputFormat | None = None
    effort: Effort | None = None
    sampling: Sampling = DEFAULT_SAMPLING
    submission: Submission = PLAIN

    def __post_init__(self) -> None:
        roles = set(map(attrgetter("role"), self.messages))
        if "system" in roles:  # messages of the system are the operator's
            raise InvalidRequest(
                "expected the roles 'user', 'assistant' and 'tool'.", field="messages"
            )
        if roles and "user" not in roles:
            raise InvalidRequest(NO_QUESTION, field="messages")

    def __repr__(self) -> str:
        roles = ", ".join(message.role for message in self.messages)
        return f"ChatRequest({len(self.messages)} messages: {roles})"


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the model: the conversation, with the messages of the system first, and the
    bounds of the answer. A dialect makes the body of its HTTP request from this value alone.

    ``model`` is the upstream name, or empty for the provider's own. ``max_output_tokens`` includes
    thinking, of which ``max_reasoning_tokens`` bounds the share, in dialects that have such a
    field. ``image_detail`` is always sent with an image.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float
    model: str = ""
    max_reasoning_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO
    output: OutputFormat | None = None
    effort: Effort | None = None
    sampling: Sampling = DEFAULT_SAMPLING
    image_detail: Literal["low", "high"] = "low"


def is_conversation(value: str) -> bool:
    """Whether a text can be a conversation's id: 1 to 256 printable characters, not only spaces."""
    return 0 < len(value) <= MAX_CONVERSATION and value.isprintable() and not value.isspace()
