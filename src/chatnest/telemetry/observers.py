"""Observers: reports each step of a request to the observers of an application. No I/O."""

import logging
from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Any, Final, get_args

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
)
from chatnest.telemetry.call_log import CallLog
from chatnest.turn import Attempt, ModelCall, Turn

__all__ = ["Observers"]

_log = logging.getLogger("chatnest.telemetry")

_KINDS: Final[tuple[type[Observation], ...]] = get_args(Observation)
_NO_HOLD: Final = Hold(id="", tokens=0, lines=())
_NO_CHARGE: Final = Charge(tokens=0)


class Observers:
    """The observers of an application, and the log.

    If ``watched`` is False, the log of failed calls is the only observer, so callers may skip all
    other events. Raises ConfigurationError for an invalid observer.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        if not isinstance(observers, Iterable):
            raise ConfigurationError(
                f"observers: expected a list of observers, got {observers!r}. Put it in a list."
            )
        self.watched: bool = False
        self.sees_admissions: bool = False
        self.sees_attempts: bool = False
        """Whether an observer sees the attempts that did not fail."""
        self._seers: dict[type[Observation], tuple[Observer, ...]] = dict.fromkeys(_KINDS, ())
        self._log = CallLog()
        self._failed: set[int] = set()
        for number, observer in enumerate(observers):
            self.add(observer, f"observers[{number}]")

    def add(self, observer: Observer, place: str = "observer") -> None:
        """Add an observer. Raises ConfigurationError for an invalid one."""
        for kind in _wanted(place, observer):
            self._seers[kind] += (observer,)
        self.watched = True
        self.sees_admissions = bool(self._seers[Admitted])
        self.sees_attempts = bool(self._seers[Attempted])

    def asked(self, turn: Turn) -> None:
        """The turn begins; its times count from here."""
        turn.asked_at = monotonic()
        if seers := self._seers[Asked]:
            self._report(seers, Asked(**_facts(turn), conversation=turn.conversation))

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
        """A request was not admitted. A client that has disconnected was not refused."""
        seers = self._seers[Refused]
        if error is None or isinstance(error, ClientGone) or not seers:
            return
        self._report(
            seers,
            Refused(
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
            ),
        )

    def not_admitted(self, turn: Turn, error: ChatNestError | None) -> None:
        """A turn was refused, or its client disconnected before it was admitted."""
        if isinstance(error, ClientGone):
            turn.outcome = error.code
            self.ended(turn)
            return
        self.refused(
            turn.id,
            error,
            principal=turn.principal,
            profile=turn.profile.name,
            model=turn.model,
            groups=turn.groups,
            plan=turn.plan,
            seconds=monotonic() - turn.asked_at,
        )

    def admitted(self, turn: Turn, admission: Admission) -> None:
        """The ledger has admitted the turn."""
        hold, seers = admission.hold, self._seers[Admitted]
        if not seers:
            return
        self._report(
            seers,
            Admitted(
                **_facts(turn),
                seconds=monotonic() - turn.asked_at,
                input_tokens=turn.input_tokens,
                max_output_tokens=turn.max_output_tokens,
                held=hold.tokens,
                held_money=hold.money,
                over=admission.over,
            ),
        )

    def attempted(
        self, turn: Turn, call: ModelCall, attempt: Attempt, error: ChatNestError | None
    ) -> None:
        """A call of the model has ended. The log has the calls that failed."""
        seers = self._seers[Attempted]
        if error is not None:
            seers = (self._log, *seers)
        if not seers:
            return
        self._report(
            seers,
            Attempted(
                **_facts(turn),
                number=len(turn.attempts),
                attempt=attempt,
                error=error,
                address=call.place,
                content_type=call.content_type,
                max_output_tokens=turn.max_output_tokens,
            ),
        )

    def first_piece(self, turn: Turn) -> None:
        """The model has begun to answer."""
        turn.first_piece_seconds = monotonic() - turn.asked_at
        if seers := self._seers[FirstPiece]:
            self._report(seers, FirstPiece(**_facts(turn), seconds=turn.first_piece_seconds))

    def ended(self, turn: Turn, hold: Hold = _NO_HOLD, charge: Charge = _NO_CHARGE) -> None:
        """The turn is settled, or was not admitted."""
        seers = self._seers[Ended]
        if not seers:
            return
        usage, charged = turn.answer.usage, turn.charged
        taken = min(turn.input_tokens, charged)
        if usage is not None and usage.total_tokens == charged:
            taken = usage.input_tokens
        outcome, first = turn.outcome, turn.first_piece_seconds
        status = 200
        if outcome != "done" and (first is None or not turn.request.submission.stream):
            status = _STATUS.get(outcome, InternalError.status)
        self._report(
            seers,
            Ended(
                **_facts(turn),
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
            ),
        )

    def _report(self, seers: tuple[Observer, ...], event: Observation) -> None:
        for observer in seers:
            try:
                observer.observe(event)
            except Exception:  # noqa: BLE001  # an observer never breaks a request
                if id(observer) not in self._failed:
                    self._failed.add(id(observer))
                    name = type(observer).__name__
                    _log.exception("observer failed: observer=%s. It is not logged again.", name)


def _facts(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "time": time(),
        "principal": turn.principal,
        "groups": turn.groups,
        "plan": turn.plan,
        "profile": turn.profile.name,
        "model": turn.model,
    }


def _wanted(place: str, observer: Observer) -> tuple[type[Observation], ...]:
    """The events that a valid observer wants to see."""
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
    """The status of each code of an error and those below it."""
    found = {error.code: error.status}
    for below in error.__subclasses__():
        found = _statuses(below) | found
    return found


_STATUS: Final[Mapping[str, int]] = _statuses(ChatNestError) | {
    InternalError.code: InternalError.status
}
