"""Observers: reports each step of a request to the observers of an application."""

import logging
from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Any, Final, get_args

from anyio import CancelScope

from chatnest._util.arguments import check_plain
from chatnest.errors import (
    ChatNestError,
    ClientGone,
    ConfigurationError,
    InternalError,
    LimitExceeded,
)
from chatnest.ledger.base import Admitted as Admission
from chatnest.ledger.base import Charge, Hold
from chatnest.telemetry.base import (
    Admitted,
    Asked,
    Attempted,
    Ended,
    FirstPiece,
    Observation,
    Observer,
    Refused,
    Tracing,
)
from chatnest.telemetry.call_log import CallLog
from chatnest.turn import Attempt, ModelCall, Turn

__all__ = ["Observers"]

_log = logging.getLogger("chatnest.telemetry")

_NO_HOLD: Final = Hold(id="", tokens=0, lines=())
_NO_CHARGE: Final = Charge(tokens=0)
_KINDS: Final[tuple[type[Observation], ...]] = get_args(Observation)


class Observers:
    """The observers of an application, and the log of failed calls.

    If ``watched`` is False, no observer sees anything, so callers may skip all events except failed
    calls, which that log sees. ``tracing`` has the observers that continue traces. Raises
    ConfigurationError for an invalid observer.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        if not isinstance(observers, Iterable):
            raise ConfigurationError(
                f"observers: expected a list of observers, got {observers!r}. Put it in a list."
            )
        self.watched: bool = False
        self.sees_requests: bool = False
        """Whether an observer sees Asked."""
        self.sees_admissions: bool = False
        self.sees_attempts: bool = False
        """Whether an observer sees the attempts that did not fail."""
        self.tracing: list[Tracing] = []
        self._all: list[Observer] = []
        self._by_kind: dict[type[Observation], list[Observer]] = {kind: [] for kind in _KINDS}
        self._log = CallLog()
        self._failed: set[int] = set()
        for number, observer in enumerate(observers):
            self.add(observer, f"observers[{number}]")

    def add(self, observer: Observer, place: str = "observer") -> None:
        """Add an observer. Raises ConfigurationError for an invalid one."""
        wanted = _wanted(place, observer)
        self._all.append(observer)
        if isinstance(observer, Tracing):
            self.tracing.append(observer)
        self._register(observer, wanted)

    def _register(self, observer: Observer, wanted: tuple[type[Observation], ...]) -> None:
        for kind, seeing in self._by_kind.items():
            if kind in wanted and observer not in seeing:
                seeing.append(observer)
        self.watched = any(self._by_kind.values())
        self.sees_requests = bool(self._by_kind[Asked])
        self.sees_admissions = bool(self._by_kind[Admitted])
        self.sees_attempts = bool(self._by_kind[Attempted])

    async def aclose(self) -> None:
        """Close the observers that can be closed. Raises nothing."""
        with CancelScope(shield=True):
            for observer in self._all:
                close = getattr(observer, "aclose", None)
                if close is not None:
                    try:
                        await close()
                    except Exception:  # noqa: BLE001  # as in _report
                        self._note_failure(observer)

    # ------------------------------------------------ traces

    def refresh(self, tracing: Tracing) -> None:
        """Read again which events an observer sees."""
        if isinstance(tracing, Observer):
            self._register(tracing, _wanted("observer", tracing))

    def trace_headers(self, turn_id: str, model: str) -> dict[str, str]:
        """The header fields that continue the trace of a turn in its next call to the model."""
        found: dict[str, str] = {}
        for tracing in self.tracing:
            try:
                found |= tracing.trace_headers(turn_id, model)
            except Exception:  # noqa: BLE001  # as in _report
                self._note_failure(tracing)
        return found

    # ------------------------------------------------ steps

    def asked(self, turn: Turn) -> None:
        """The turn begins; its times count from here."""
        self._report(Asked, turn, conversation=turn.request.conversation)

    def refused(
        self,
        request_id: str,
        error: ChatNestError | None,
        *,
        principal: str | None = None,
        profile: str | None = None,
        model: str | None = None,
        groups: Mapping[str, str] | None = None,
        plan: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        """A request was refused. A client that has disconnected does not count as refused."""
        if error is None or isinstance(error, ClientGone):
            return
        event = Refused(
            id=request_id,
            time=time(),
            status=error.status,
            code=error.code,
            limit=error.limit if isinstance(error, LimitExceeded) else None,
            retry_after=error.retry_after,
            seconds=seconds,
            principal=principal,
            groups=groups,
            plan=plan,
            profile=profile,
            model=model,
        )
        for observer in self._by_kind[Refused]:
            self._show(observer, event)

    def not_admitted(self, turn: Turn, error: ChatNestError | None) -> None:
        """A turn was refused, or its client disconnected before it was admitted."""
        if isinstance(error, ClientGone):
            turn.outcome = error.code
            self.ended(turn)
            return
        self.refused(
            turn.id,
            error if error is not None else InternalError(),  # a policy stopped it too early
            principal=turn.principal,
            profile=turn.profile.name,
            model=turn.model,
            groups=turn.groups,
            plan=turn.plan,
            seconds=monotonic() - turn.asked_at,
        )

    def admitted(self, turn: Turn, admission: Admission) -> None:
        """The ledger has admitted the turn."""
        if not self._by_kind[Admitted]:
            return
        hold = admission.hold
        self._report(
            Admitted,
            turn,
            seconds=monotonic() - turn.asked_at,
            input_tokens=turn.input_tokens,
            max_output_tokens=turn.max_output_tokens,
            held=hold.tokens,
            held_money=hold.money,
            over=admission.over,
        )

    def attempted(
        self, turn: Turn, call: ModelCall, attempt: Attempt, error: ChatNestError | None
    ) -> None:
        """A call to the model has ended."""
        asked, answer = call.request, turn.answer
        self._report(
            Attempted,
            turn,
            self._log if error is not None else None,
            number=len(turn.attempts),
            attempt=attempt,
            error=error,
            address=call.place,
            content_type=call.content_type,
            max_output_tokens=turn.max_output_tokens,
            api=call.api,
            temperature=asked.temperature,
            effort=asked.effort,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            first_piece_seconds=answer.waited if answer.said else None,
        )

    def first_piece(self, turn: Turn) -> None:
        """The model has begun to answer."""
        turn.first_piece_seconds = monotonic() - turn.asked_at
        if self._by_kind[FirstPiece]:
            self._report(FirstPiece, turn, seconds=turn.first_piece_seconds)

    def ended(self, turn: Turn, hold: Hold = _NO_HOLD, charge: Charge = _NO_CHARGE) -> None:
        """The turn is settled, or was not admitted."""
        if not self._by_kind[Ended]:
            return
        usage, charged = turn.answer.usage, turn.charged
        taken = min(turn.input_tokens, charged)
        if usage is not None and usage.input_tokens + usage.output_tokens == charged:
            taken = usage.input_tokens
        outcome, first = turn.outcome, turn.first_piece_seconds
        status = 200
        if outcome != "done" and (first is None or not turn.request.submission.stream):
            status = _STATUS.get(outcome, InternalError.status)
        self._report(
            Ended,
            turn,
            seconds=monotonic() - turn.asked_at,
            outcome=outcome,
            finish_reason=turn.answer.finish_reason,
            input_tokens=taken,
            output_tokens=charged - taken,
            source=turn.source,
            attempts=len(turn.attempts),
            first_piece_seconds=first,
            money=charge.money,
            held=hold.tokens,
            held_money=hold.money,
            facts=charge.facts,
            calls=turn.attempts,
            status=status,
        )

    def _report(
        self, kind: type[Observation], turn: Turn, log: CallLog | None = None, **facts: Any
    ) -> None:
        """Make an event of a turn, for the observers that see its kind and for ``log``. It is one
        function rather than several, since a request calls it several times.
        """
        seeing = self._by_kind[kind]
        if not seeing and log is None:
            return
        event = kind(
            id=turn.id,
            time=time(),
            principal=turn.principal,
            groups=turn.groups,
            plan=turn.plan,
            profile=turn.profile.name,
            model=turn.model,
            **facts,
        )
        if log is not None:
            self._show(log, event)
        for observer in seeing:
            try:
                observer.observe(event)
            except Exception:  # noqa: BLE001  # an observer never breaks a request
                self._note_failure(observer)

    def _show(self, observer: Observer, event: Observation) -> None:
        try:
            observer.observe(event)
        except Exception:  # noqa: BLE001  # as above
            self._note_failure(observer)

    def _note_failure(self, observer: object) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            name = type(observer).__name__
            _log.exception("observer failed: observer=%s. It is not logged again.", name)


def _wanted(place: str, observer: Observer) -> tuple[type[Observation], ...]:
    """The events that an observer sees. Raises ConfigurationError for an invalid observer."""
    written = getattr(observer, "observe", None)
    if isinstance(observer, type) or not callable(written):
        raise ConfigurationError(
            f"{place}: expected an object with observe(event), got {observer!r}. "
            "Pass an instance that defines it."
        )
    check_plain(f"{place}: observe", written)
    wanted: Any = getattr(observer, "sees", _KINDS)
    if not isinstance(wanted, tuple) or not set(wanted) <= set(_KINDS):
        raise ConfigurationError(
            f"{place}: sees: expected a tuple of classes of events, got {wanted!r}. Leave it "
            "out for all."
        )
    return wanted


def _statuses(error: type[ChatNestError]) -> dict[str, int]:
    """The status of each code, of an error class and its subclasses."""
    found = {error.code: error.status}
    for below in error.__subclasses__():
        found = _statuses(below) | found
    return found


_STATUS: Final[Mapping[str, int]] = _statuses(ChatNestError) | {
    InternalError.code: InternalError.status
}
