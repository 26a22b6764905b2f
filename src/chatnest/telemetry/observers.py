"""Observers: reports each step of a request to the observers of an application. No I/O."""

import logging
from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Any, Final

from chatnest._util.arguments import check_plain
from chatnest.errors import ChatNestError, ClientGone, ConfigurationError, LimitExceeded
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
        checked = [_checked(number, observer) for number, observer in enumerate(observers)]
        self.watched: bool = bool(checked)
        self._observers: tuple[Observer, ...] = (CallLog(), *checked)
        self._failed: set[int] = set()

    def asked(self, turn: Turn) -> None:
        """The turn begins; its times count from here."""
        turn.asked_at = monotonic()
        self._report(Asked(**_facts(turn), conversation=turn.conversation))

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
        if error is None or isinstance(error, ClientGone):
            return
        self._report(
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
            )
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
        hold = admission.hold
        self._report(
            Admitted(
                **_facts(turn),
                seconds=monotonic() - turn.asked_at,
                input_tokens=turn.input_tokens,
                max_output_tokens=turn.max_output_tokens,
                held=hold.tokens,
                held_money=hold.money,
                over=admission.over,
            )
        )

    def attempted(
        self, turn: Turn, call: ModelCall, attempt: Attempt, error: ChatNestError | None
    ) -> None:
        """A call of the model has ended."""
        self._report(
            Attempted(
                **_facts(turn),
                number=len(turn.attempts),
                attempt=attempt,
                error=error,
                address=call.place,
                content_type=call.content_type,
                max_output_tokens=turn.max_output_tokens,
            )
        )

    def first_piece(self, turn: Turn) -> None:
        """The model has begun to answer."""
        turn.first_piece_seconds = monotonic() - turn.asked_at
        self._report(FirstPiece(**_facts(turn), seconds=turn.first_piece_seconds))

    def ended(self, turn: Turn, hold: Hold = _NO_HOLD, charge: Charge = _NO_CHARGE) -> None:
        """The turn is settled, or was not admitted."""
        usage, charged = turn.answer.usage, turn.charged
        taken = min(turn.input_tokens, charged)
        if usage is not None and usage.total_tokens == charged:
            taken = usage.input_tokens
        self._report(
            Ended(
                **_facts(turn),
                seconds=monotonic() - turn.asked_at,
                outcome=turn.outcome,
                finish_reason=turn.answer.finish_reason,
                input_tokens=taken,
                output_tokens=charged - taken,
                source=turn.source,
                attempts=len(turn.attempts),
                first_piece_seconds=turn.first_piece_seconds,
                money=charge.money,
                held=hold.tokens,
                held_money=hold.money,
                facts=charge.facts,
            )
        )

    def _report(self, event: Observation) -> None:
        for number, observer in enumerate(self._observers):
            try:
                observer.observe(event)
            except Exception:  # noqa: BLE001  # an observer never breaks a request
                if number not in self._failed:
                    self._failed.add(number)
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


def _checked(number: int, observer: Observer) -> Observer:
    written = getattr(observer, "observe", None)
    if isinstance(observer, type) or not callable(written):
        raise ConfigurationError(
            f"observers[{number}]: expected an object with observe(event), got {observer!r}. "
            "Pass an instance that defines it."
        )
    check_plain(f"observers[{number}]: observe", written)
    return observer
