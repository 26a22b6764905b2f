"""Observer: sees each step of a request, with its time. The seam. No I/O.

    Asked ──► Admitted ──► Attempted ... ──► Ended
      │           └── FirstPiece, once
      └─────► Refused, without Asked if the request was refused before its turn began

Each Asked is followed by one Refused or one Ended. A request that joins a run has no turn of its
own, and is not observed. No event has text of a conversation or of an answer.
"""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import msgspec
from starlette.types import Scope

from chatnest.errors import ChatNestError
from chatnest.events import Usage
from chatnest.ledger.base import Admitted as Admission
from chatnest.ledger.base import Facts
from chatnest.turn import Attempt

__all__ = [
    "Admitted",
    "Asked",
    "Attempted",
    "BooksObserver",
    "Ended",
    "FirstPiece",
    "Observation",
    "Observer",
    "Refused",
    "Tracing",
]


class _OfTurn(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of every event of a turn. ``id`` is the turn's id in the log, in the ledger and in
    ChatNest-Request-Id. ``time`` is in seconds since 1970. ``groups`` and ``plan`` come from the
    Identity.
    """

    id: str
    time: float
    principal: str
    groups: Mapping[str, str]
    plan: str | None = None
    profile: str
    model: str


class Asked(_OfTurn, frozen=True, kw_only=True):
    """A valid request begins its turn. ``conversation`` is the client's id of the conversation."""

    conversation: str | None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The request was refused before any tokens were reserved, with a ``status`` and a ``code``.

    ``limit`` names the limit that refused it, ``retry_after`` is in seconds, and ``seconds`` is the
    time since Asked. The fields of a turn are None if the request was refused before they were
    known.
    """

    id: str
    time: float
    status: int
    code: str
    limit: str | None = None
    retry_after: float | None = None
    seconds: float = 0.0
    principal: str | None = None
    groups: Mapping[str, str] | None = None
    plan: str | None = None
    profile: str | None = None
    model: str | None = None


class Admitted(_OfTurn, frozen=True, kw_only=True):
    """The turn fits under all limits: ``held`` tokens are reserved, of which ``max_output_tokens``
    are for the answer, and ``held_money`` nano-dollars. ``seconds`` is the time since Asked.
    ``over`` are the names of the shadow limits that would have refused the turn.
    """

    seconds: float
    input_tokens: int
    max_output_tokens: int
    held: int
    held_money: int = 0
    over: tuple[str, ...] = ()


class Attempted(_OfTurn, frozen=True, kw_only=True):
    """A call to the model has ended, the ``number``-th of its turn. ``error`` is the error that
    ended it, or None. ``address`` and ``content_type`` are the provider's, or empty, and ``api`` is
    its dialect, such as ``openai-chat``. ``temperature`` and ``effort`` are those of the request.

    ``usage`` is None if the provider has not reported it yet. It also names the response and its
    model. ``first_piece_seconds`` is the time from the beginning of the call.
    """

    number: int
    attempt: Attempt
    error: ChatNestError | None
    address: str
    content_type: str
    max_output_tokens: int
    api: str = ""
    temperature: float | None = None
    effort: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    first_piece_seconds: float | None = None


class FirstPiece(_OfTurn, frozen=True, kw_only=True):
    """The first text, thinking or call of a tool has arrived. ``seconds`` is the time since Asked,
    including failed attempts.
    """

    seconds: float


class Ended(_OfTurn, frozen=True, kw_only=True):
    """The turn is settled, or its client disconnected before it was admitted. ``outcome`` is
    ``"done"`` or the code of an error.

    The charge is ``input_tokens`` and ``output_tokens``, and ``money`` in nano-dollars. ``source``
    is where the figures come from: ``provider``, ``estimated``, or ``none`` if nothing was charged.
    ``held`` tokens and ``held_money`` were reserved. ``facts`` are those of the record in the
    ledger. ``attempts`` is the number of calls, and ``calls`` are the calls that have ended.
    ``seconds`` and ``first_piece_seconds`` count from Asked; the latter is None without an answer.
    ``status`` is the HTTP status of the response.
    """

    seconds: float
    outcome: str
    finish_reason: str | None
    input_tokens: int
    output_tokens: int
    source: str
    attempts: int
    first_piece_seconds: float | None = None
    money: int = 0
    held: int = 0
    held_money: int = 0
    facts: Facts = Facts()
    calls: tuple[Attempt, ...] = ()
    status: int = 200


Observation = Asked | Refused | Admitted | Attempted | FirstPiece | Ended
"""A closed union. An observer may pick the events that it needs; a ``match`` over all of them ends
with ``assert_never``.
"""


@runtime_checkable
class Observer(Protocol):
    """Sees the requests of an application.

    An observer may have ``sees``, a tuple of classes of events: it then gets only these events. It
    may have ``async def aclose()``, which is awaited after the last turn has ended.
    """

    def observe(self, event: Observation, /) -> None:
        """Receive an event. This runs on the event loop, so it must return at once. An exception
        is logged, once for each observer, and has no other effect.
        """


class BooksObserver(Protocol):
    """Sees the calls to a ledger that admit and settle turns."""

    def called(
        self, operation: Literal["reserve", "settle", "release"], seconds: float, *, failed: bool
    ) -> None:
        """A call has ended after ``seconds``. ``failed`` is whether the ledger was unavailable."""

    def admitted(self, admission: Admission) -> None:
        """A turn is admitted. Its Ended event follows."""


@runtime_checkable
class Tracing(Protocol):
    """An observer that also continues traces: from clients, and to providers."""

    def arrived(self, scope: Scope, head: Mapping[bytes, bytes], /) -> bool | None:
        """A request for an answer has arrived, in the task that serves it. ``head`` has its header
        fields. Returns True if the observer sees more events from now on, so that its ``sees`` must
        be read again.
        """
        ...

    def trace_headers(self, turn_id: str, model: str, /) -> Mapping[str, str]:
        """The header fields that continue the trace of a turn in its next call to the model."""
        ...
