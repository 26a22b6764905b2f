"""The exceptions of chatnest, each with its HTTP status, its code and its retry advice. No I/O.

    ChatNestError
    ├── ConfigurationError             raised at start, never during a request
    │   ├── ZoneConflict               at start, or at the first use of a limit in another time zone
    │   └── UnitConflict               the same, for another unit
    ├── RequestError                   the request cannot be served as it is
    │   ├── InvalidRequest             400  shape of the body
    │   ├── Unauthenticated            401  identify() returned None
    │   ├── ForbiddenProfile           403
    │   ├── UnknownModel               404
    │   ├── NotFound                   404
    │   ├── MethodNotAllowed           405
    │   ├── SlowBody                   408
    │   ├── BodyTooLarge               413  bytes
    │   ├── RequestTooLarge            413  tokens
    │   ├── UnsupportedMediaType       415
    │   ├── MisdirectedRequest         421  Host is not a name of this server
    │   ├── HeadTooLarge               431  too many header fields, or a long query
    │   ├── KeyReused                  422  an Idempotency-Key of another request
    │   └── ReplayUnavailable          410  the first events of the run were dropped
    ├── LimitExceeded                  429  a rate, a budget, a number of streams
    ├── LedgerUnavailable              503
    ├── Overloaded                     503  the worker has too much work
    ├── ServerShutdown                 503
    ├── UpstreamError                  the call to the model failed
    │   ├── UpstreamUnavailable        502  no HTTP response
    │   ├── UpstreamTimeout            504
    │   ├── UpstreamOverloaded         503  a rate limit, or 503
    │   ├── UpstreamServerError        502  5xx
    │   ├── UpstreamAccount            503  the operator's key or quota
    │   ├── UpstreamRejected           502  the provider rejected the request
    │   ├── ContextLengthExceeded      400
    │   ├── UpstreamBadResponse        502  the response is not a chat completion
    │   ├── UpstreamInterrupted        502  the answer ended without its end mark
    │   └── EmptyAnswer                502  the answer ended without any text
    ├── StreamTimeout                  504  the stream's own deadline
    ├── AnswerTooLong                  502  more than the request allows
    ├── InternalError                  500  a fault of chatnest or of a policy
    ├── RunLost                        503  the run's worker disappeared
    ├── RunCancelled                   409  cancelled by a request
    └── ClientGone                     499  the client disconnected
        └── ClientStalled              499  the client stopped reading

This module writes the messages, from facts that the caller passes. A message never contains text
of an upstream or of a client.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from chatnest.amounts import quantity_text

__all__ = [
    "AnswerTooLong",
    "BodyTooLarge",
    "ChatNestError",
    "ClientGone",
    "ClientStalled",
    "ConfigurationError",
    "ContextLengthExceeded",
    "EmptyAnswer",
    "ForbiddenProfile",
    "HeadTooLarge",
    "InternalError",
    "InvalidRequest",
    "KeyReused",
    "LedgerUnavailable",
    "LimitExceeded",
    "LimitPeriod",
    "LimitUnit",
    "MethodNotAllowed",
    "MisdirectedRequest",
    "NotFound",
    "Overloaded",
    "ReplayUnavailable",
    "RequestError",
    "RequestTooLarge",
    "RunCancelled",
    "RunLost",
    "ServerShutdown",
    "SlowBody",
    "StreamTimeout",
    "Unauthenticated",
    "UnitConflict",
    "UnknownModel",
    "UnsupportedMediaType",
    "UpstreamAccount",
    "UpstreamBadResponse",
    "UpstreamError",
    "UpstreamInterrupted",
    "UpstreamOverloaded",
    "UpstreamRejected",
    "UpstreamServerError",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "ZoneConflict",
]


_KEY: Final = "Idempotency-Key"


class ChatNestError(Exception):
    """The base class of all exceptions that chatnest raises on purpose.

    ``detail`` is a sentence for people. ``retryable`` is whether the same request may succeed
    later, and ``retry_after`` the seconds until then, or None if that is unknown.
    """

    status: int = 500
    code: str = "internal_error"
    title: str = "Internal error"
    problem_type: str = "about:blank"
    """``type`` of RFC 9457, section 3.1.1."""
    retryable: bool = False
    retry_after: float | None = None
    names: tuple[str, ...] = ()
    """The fields that ``detail`` names, by their names in the native format."""

    def __init__(self, detail: str = "") -> None:
        self.detail: str = detail or f"{self.title}."
        super().__init__(self.detail)

    def detail_in(self, names: Mapping[str, str]) -> str:
        """``detail`` for the clients of another format, which has these names for fields of the
        native one. Fields that are not in ``names`` have the same name.
        """
        detail = self.detail
        for name in self.names:
            detail = detail.replace(name, names.get(name, name))
        return detail

    @property
    def headers(self) -> Mapping[str, str]:
        """Response header fields that belong to this error, beyond Retry-After."""
        return {}

    @property
    def retry_after_seconds(self) -> int | None:
        """``retry_after`` in whole seconds, at least 1, as clients get it."""
        return None if self.retry_after is None else max(1, math.ceil(self.retry_after))

    def fields(self) -> dict[str, object]:
        """Fields of problem documents and of error frames; ``retry_after`` is in whole seconds."""
        fields: dict[str, object] = {"code": self.code, "retryable": self.retryable}
        if (seconds := self.retry_after_seconds) is not None:
            fields["retry_after"] = seconds
        return fields


class ConfigurationError(ChatNestError):
    """The application cannot start with this configuration; the message says what to change."""

    code = "configuration_error"
    title = "Configuration error"


class ZoneConflict(ConfigurationError):
    """A limit was used with another time zone than the one in which the ledger counts its days.

    ``kept`` is the zone in the ledger's books, ``asked`` the other one.
    """

    def __init__(self, name: str, kept: str, asked: str) -> None:
        self.name: str = name
        self.kept: str = kept
        self.asked: str = asked
        super().__init__(
            f"timezone: expected {kept!r}, in which the ledger counts the limit {name!r}, got "
            f"{asked!r}. Set it back, or stop all workers and run `chatnest ledger timezone "
            f"{name} {asked}`."
        )


class UnitConflict(ConfigurationError):
    """A limit was used with another unit than the one that the ledger counts under its name."""

    def __init__(self, name: str, kept: str, asked: str) -> None:
        super().__init__(
            f"unit: expected {kept!r}, which the ledger counts under the name {name!r}, got "
            f"{asked!r}. Give the limit another name."
        )


# ---------------------------------------------------------------- the request


class RequestError(ChatNestError):
    """The request cannot be served as it is; a retry fails again."""

    status = 400
    code = "bad_request"
    title = "Bad request"


class InvalidRequest(RequestError):
    """The body is not a chat request; ``detail`` names the field and what is expected there.

    ``field`` is for code that does not know the format of the request: the name of the field in the
    native format, which then begins the sentence.
    """

    code = "invalid_request"
    title = "Invalid request"

    def __init__(self, detail: str = "", *, field: str = "") -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.names: tuple[str, ...] = (field,) if field else ()


class Unauthenticated(RequestError):
    """``identify`` returned None. ``challenge`` is the value of WWW-Authenticate (RFC 9110, section
    11.6.1).
    """

    status = 401
    code = "unauthenticated"
    title = "Not signed in"

    def __init__(self, challenge: str = "") -> None:
        super().__init__(
            "This chat needs to know who is asking: the request does not say, or not so that it "
            "can be believed."
        )
        self._challenge = challenge

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": self._challenge} if self._challenge else {}


class ForbiddenProfile(RequestError):
    """The caller may not use this profile, whether it exists or not."""

    status = 403
    code = "forbidden_profile"
    title = "Profile not allowed"

    def __init__(self, allowed: list[str]) -> None:
        names = ", ".join(allowed) or "none"
        super().__init__(f"This profile is not open to you. Open to you: {names}.")


class UnknownModel(RequestError):
    """No open profile has a model of this name, and no profile has this name."""

    status = 404
    code = "model_not_found"
    title = "Unknown model"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"model: must be one of {', '.join(names) or 'no name'}.")


class NotFound(RequestError):
    """Nothing is served at this path."""

    status = 404
    code = "not_found"
    title = "Not found"

    def __init__(self) -> None:
        super().__init__("There is nothing at this path.")


class MisdirectedRequest(RequestError):
    """``Host`` names another server, as in an attack by DNS rebinding."""

    status = 421
    code = "misdirected_request"
    title = "Not this server's name"

    def __init__(self) -> None:
        super().__init__(
            "This server does not answer to the name in Host. Its operator can add that to "
            "server.allow_hosts."
        )


class MethodNotAllowed(RequestError):
    """The path does not support the method. The response has Allow (RFC 9110, section 15.5.6)."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"

    def __init__(self, *allowed: str) -> None:
        self._allow = ", ".join(allowed)
        super().__init__(f"This path takes {self._allow}.")

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": self._allow}


class SlowBody(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "slow_body"
    title = "Body too slow"
    retryable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request body did not arrive within {seconds:g} seconds.")


class BodyTooLarge(RequestError):
    """The body has more bytes than allowed."""

    status = 413
    code = "body_too_large"
    title = "Body too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit:,} bytes.")


class RequestTooLarge(RequestError):
    """The request needs more tokens than one request may use: a 413, since waiting never helps."""

    status = 413
    code = "request_too_large"
    title = "Request too large"

    def __init__(self, *, needed: int, limit: int) -> None:
        super().__init__(
            f"This message needs at least {needed:,} tokens together with its answer; "
            f"one request may use {limit:,}. A shorter message helps."
        )


class UnsupportedMediaType(RequestError):
    """The body is not JSON. This also keeps out HTML forms of other origins."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"

    def __init__(self) -> None:
        super().__init__("The request body must be application/json in UTF-8, not compressed.")


class HeadTooLarge(RequestError):
    """A part of the request's head is larger than allowed (RFC 6585, section 5)."""

    status = 431
    code = "head_too_large"
    title = "Request head too large"

    def __init__(self, part: str, most: int, unit: str, got: int) -> None:
        super().__init__(f"{part}: expected at most {most:,} {unit}, got {got:,}. Send less.")


class KeyReused(RequestError):
    """The Idempotency-Key was used with another request. ``of_format`` is whether the format has
    made the key of a field, in place of a header.
    """

    status = 422
    code = "idempotency_key_reused"
    title = "Idempotency-Key used before"

    def __init__(self, *, of_format: bool = False) -> None:
        self.names: tuple[str, ...] = (_KEY,) if of_format else ()
        super().__init__(
            f"This {_KEY} came with another request before. A new request needs a new one."
        )


class ReplayUnavailable(RequestError):
    """The run's log no longer has the events that the reader needs, or a later version of
    chatnest has written them.
    """

    status = 410
    code = "replay_unavailable"
    title = "Replay unavailable"

    def __init__(self, *, readable: bool = True) -> None:
        super().__init__(
            "The beginning of this answer is not kept any more."
            if readable
            else "A later version of this service has written this answer; it is unreadable here."
        )


# ---------------------------------------------------------------- limits and the ledger


LimitPeriod = Literal["day", "week", "month", "lifetime"]
LimitUnit = Literal["requests", "look-ups", "streams", "tokens", "money"]
"""The unit of a limit."""


class LimitExceeded(ChatNestError):
    """A limit refused the request, and nothing was counted against any limit.

    ``limit`` is the name of the limit that refused, and ``unit`` what it counts. ``window`` is in
    seconds, or None for streams and for a lifetime; ``period`` is the day, week, month or lifetime
    of the calendar, or None. ``wait`` is the seconds until a retry may succeed, or None if waiting
    does not help. ``amount`` is how much the limit allows, or None for a hidden limit. ``needed``
    is what the request needs of it where that is more than the whole limit; both are in
    nano-dollars for money, of ``currency``. ``held`` is whether running answers hold what is left.
    """

    status = 429
    title = "Limit reached"
    problem_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"

    def __init__(
        self,
        limit: str,
        *,
        unit: LimitUnit,
        window: int | None,
        wait: float | None,
        period: LimitPeriod | None = None,
        amount: int | None = None,
        needed: int | None = None,
        held: bool = False,
        currency: str = "USD",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if period is None and unit == "tokens" and window == _DAY:
            period = "day"
        quantity = None if amount is None else quantity_text(unit, amount, currency)
        lack = None if needed is None else quantity_text(unit, needed, currency)
        super().__init__(_limit_detail(unit, window, period, quantity, lack, held=held))
        self.limit: str = limit
        self.unit: LimitUnit = unit
        self.window: int | None = window
        self.wait: float | None = wait
        self.code: str = _limit_code(unit, period)
        self.retryable: bool = wait is not None
        self.retry_after: float | None = wait
        self._headers = headers or {}

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    def fields(self) -> dict[str, object]:
        return {**super().fields(), "limit": self.limit}


_DAY: Final = 86_400

_THIS: Final[Mapping[LimitPeriod, str]] = {
    "day": "Today's",
    "week": "This week's",
    "month": "This month's",
    "lifetime": "The",
}


def _limit_code(unit: LimitUnit, period: LimitPeriod | None) -> str:
    if unit == "streams":
        return "too_many_streams"
    return "rate_limited" if period is None else "budget_exhausted"


def _limit_detail(
    unit: LimitUnit,
    window: int | None,
    period: LimitPeriod | None,
    amount: str | None,
    needed: str | None,
    *,
    held: bool,
) -> str:
    if amount is None:
        return "The limit that all visitors of this service share is used up for now."
    if unit == "streams":
        return f"The limit of answers at the same time is {amount.removesuffix(' streams')}."
    if needed is not None:
        has = f"{window} seconds have" if period is None else f"a {period} has"
        if period == "lifetime":
            has = "the account has"
        return f"This request needs at least {needed}, and {has} {amount.removesuffix(' tokens')}."
    if period is None:
        return f"The limit of {unit} in {window} seconds is {amount.removesuffix(f' {unit}')}."
    few = "little is" if unit == "money" else "few are"
    if held:
        rest = "money" if unit == "money" else unit
        of = f"{_THIS[period].lower()} {rest}" if period != "lifetime" else f"the {rest}"
        return f"The rest of {of} is held for answers that are still being written."
    are = "is" if unit == "money" else "are"
    return f"{_THIS[period]} {amount} {are} used up, or too {few} left for this request."


class LedgerUnavailable(ChatNestError):
    """The ledger cannot be written, so nothing that costs money starts."""

    status = 503
    code = "ledger_unavailable"
    title = "Accounting unavailable"
    retryable = True

    def __init__(self, retry_after: float = 5.0) -> None:
        self.retry_after: float | None = retry_after
        super().__init__("Usage cannot be recorded at the moment, so no answer was started.")


class Overloaded(ChatNestError):
    """The worker has too much work to start another answer, or its maximum of open streams."""

    status = 503
    code = "overloaded"
    title = "Too busy"
    retryable = True
    retry_after: float | None = 2.0

    def __init__(self) -> None:
        super().__init__("The server is too busy to begin an answer. Try again in a moment.")


class ServerShutdown(ChatNestError):
    """The process is shutting down."""

    status = 503
    code = "server_shutdown"
    title = "Server restarting"
    retryable = True
    retry_after: float | None = 1.0

    def __init__(self) -> None:
        super().__init__("The server is restarting. Please try again in a moment.")


# ---------------------------------------------------------------- the model


class UpstreamError(ChatNestError):
    """The call to the model failed.

    ``transient`` is whether chatnest may retry before the stream starts. ``reached_model`` is
    whether the model may have worked although no part of an answer came, so the input is charged.
    ``facts`` are for the log alone: our own, and ``code`` and ``param`` from the provider's
    response, which may be any text.
    """

    status = 502
    code = "upstream_error"
    title = "The model failed"
    retryable = True
    transient: bool = False
    reached_model: bool = False

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: float | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.retry_after: float | None = retry_after
        self.facts: Mapping[str, str] = facts or {}


class UpstreamUnavailable(UpstreamError):
    """No HTTP response: connection refused, DNS, TLS, closed at once, or not HTTP."""

    code = "upstream_unavailable"
    title = "The model cannot be reached"
    transient = True


class UpstreamTimeout(UpstreamError):
    """The model accepted the request and then sent nothing for too long."""

    status = 504
    code = "upstream_timeout"
    title = "The model did not answer in time"
    reached_model = True


class UpstreamOverloaded(UpstreamError):
    """The model's provider answered with a rate limit or a 503."""

    status = 503
    code = "upstream_overloaded"
    title = "The model is overloaded"
    transient = True


class UpstreamServerError(UpstreamError):
    """The model's provider answered with a 5xx."""

    code = "upstream_error"
    title = "The model's provider failed"
    transient = True


class UpstreamAccount(UpstreamError):
    """The provider refused the operator's key, permission or quota. A client cannot fix this."""

    status = 503
    code = "upstream_account"
    title = "The model is not available to this service"
    retryable = False


class UpstreamRejected(UpstreamError):
    """The provider rejected the request that chatnest sent."""

    code = "upstream_rejected"
    title = "The model did not take the request"
    retryable = False


class ContextLengthExceeded(UpstreamRejected):
    """The conversation does not fit the model's context window."""

    status = 400
    code = "context_length"
    title = "The conversation is too long for the model"


class UpstreamBadResponse(UpstreamError):
    """The response is not a chat completion. It may have been billed, so there is no retry."""

    code = "upstream_bad_response"
    title = "The model's answer could not be read"


class UpstreamInterrupted(UpstreamError):
    """The answer ended without its end mark, or because the model failed."""

    code = "upstream_interrupted"
    title = "The answer was cut off"
    reached_model = True


class EmptyAnswer(UpstreamError):
    """The model finished without writing anything.

    ``spent`` is whether it used up its output limit, mostly by thinking: then a retry fails again.
    """

    code = "empty_answer"
    title = "The answer is empty"
    reached_model = True

    def __init__(self, *, spent: bool, facts: Mapping[str, str] | None = None) -> None:
        super().__init__(
            "The model used up its limit before it wrote anything: it was still thinking."
            if spent
            else "The model finished without writing anything.",
            facts=facts,
        )
        self.retryable: bool = not spent


# ---------------------------------------------------------------- the stream


class StreamTimeout(ChatNestError):
    """The whole stream took longer than its deadline."""

    status = 504
    code = "stream_timeout"
    title = "The answer took too long"
    retryable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The answer took longer than {seconds:g} seconds and was stopped.")


class AnswerTooLong(ChatNestError):
    """The model wrote more than the request allowed, so chatnest stopped it."""

    status = 502
    code = "answer_too_long"
    title = "The answer was longer than allowed"


class InternalError(ChatNestError):
    """A fault of chatnest or of a policy. The log has the details, the client gets none."""

    def __init__(self) -> None:
        super().__init__("Something went wrong on the server.")


class RunLost(ChatNestError):
    """The worker that wrote the answer disappeared."""

    status = 503
    code = "run_lost"
    title = "The answer was lost"
    retryable = True
    names: tuple[str, ...] = (_KEY,)

    def __init__(self) -> None:
        super().__init__(
            f"The server that was writing this answer has ended. Ask again, with a new {_KEY}."
        )


class RunCancelled(ChatNestError):
    """A request cancelled the answer."""

    status = 409
    code = "cancelled"
    title = "Cancelled"

    def __init__(self) -> None:
        super().__init__("This answer was cancelled.")


class ClientGone(ChatNestError):
    """The client disconnected. A later request with the same Idempotency-Key gets this error."""

    status = 499
    code = "client_gone"
    title = "Client gone"
    names: tuple[str, ...] = (_KEY,)

    def __init__(self) -> None:
        super().__init__(
            f"The client disconnected, so this answer was stopped. Ask again, with a new {_KEY}."
        )


class ClientStalled(ClientGone):
    """The client stopped reading."""

    code = "client_stalled"
    title = "Client stalled"
