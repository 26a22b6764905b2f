"""The exceptions of chatnest: each with its HTTP status, its code and its retry advice. No I/O.

    ChatNestError
    ├── ConfigurationError             raised at start, never during a request
    │   └── ZoneConflict               at start, or where a limit of another zone is first used
    ├── RequestError                   the request cannot be served as it is
    │   ├── InvalidRequest             400  shape of the body
    │   ├── Unauthenticated            401  identify() returned None
    │   ├── ForbiddenProfile           403
    │   ├── NotFound                   404
    │   ├── MethodNotAllowed           405
    │   ├── SlowBody                   408
    │   ├── BodyTooLarge               413  bytes
    │   ├── RequestTooLarge            413  tokens
    │   ├── UnsupportedMediaType       415
    │   ├── MisdirectedRequest         421  the name of another server
    │   ├── HeadTooLarge               431  fields, or the query
    │   ├── KeyReused                  422  an Idempotency-Key of another request
    │   └── ReplayUnavailable          410  the run's events are not all kept
    ├── LimitExceeded                  429  a rate, a budget, a number of streams
    ├── LedgerUnavailable              503
    ├── Overloaded                     503  the worker is behind
    ├── ServerShutdown                 503
    ├── UpstreamError                  what came of the call to the model
    │   ├── UpstreamUnavailable        502  no HTTP answer
    │   ├── UpstreamTimeout            504
    │   ├── UpstreamOverloaded         503  a rate limit, or 503
    │   ├── UpstreamServerError        502  5xx
    │   ├── UpstreamAccount            503  the operator's key or quota
    │   ├── UpstreamRejected           502  it did not take the request
    │   ├── ContextLengthExceeded      400
    │   ├── UpstreamBadResponse        502  not what a chat completion looks like
    │   ├── UpstreamInterrupted        502  ended before it said that it had
    │   └── EmptyAnswer                502  finished, and nothing was written
    ├── StreamTimeout                  504  the stream's own deadline
    ├── AnswerTooLong                  502  more than was asked for
    ├── InternalError                  500  a fault of ours or of a policy
    ├── RunLost                        503  its worker is not heard of any more
    ├── RunCancelled                   409  somebody had it end
    └── ClientGone                     499  nobody read any more
        └── ClientStalled              499  it did not take what was sent

Messages are written here, from facts that the caller passes: never from an upstream's text,
never from what a client sent.
"""

import math
from collections.abc import Mapping

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


class ChatNestError(Exception):
    """The root of everything that chatnest raises on purpose.

    ``detail`` is a sentence for the person who reads it, ``retryable`` says whether the same
    request may succeed later, ``retry_after`` (seconds) when; None where nobody can know.
    ``charged`` says whether any tokens were charged for the turn that failed so, ``of_run`` whether
    it is the last event of a run, and not what befell one of its readers.
    """

    status: int = 500
    code: str = "internal_error"
    title: str = "Internal error"
    problem_type: str = "about:blank"
    """``type`` of RFC 9457, section 3.1.1."""
    retryable: bool = False
    retry_after: float | None = None
    charged: bool = False
    of_run: bool = False

    def __init__(self, detail: str = "") -> None:
        self.detail: str = detail or f"{self.title}."
        super().__init__(self.detail)

    @property
    def headers(self) -> Mapping[str, str]:
        """Response header fields that belong to this error, beyond Retry-After."""
        return {}

    def fields(self) -> dict[str, object]:
        """What problem documents and error frames say alike; ``retry_after`` in whole seconds."""
        fields: dict[str, object] = {"code": self.code, "retryable": self.retryable}
        if self.retry_after is not None:
            fields["retry_after"] = max(1, math.ceil(self.retry_after))
        return fields


class ConfigurationError(ChatNestError):
    """The application cannot start like this; the message says what to change."""

    code = "configuration_error"
    title = "Configuration error"


class ZoneConflict(ConfigurationError):
    """A limit's days are counted in one time zone, and it was used with another: ``kept`` is the
    zone in the ledger's books, ``asked`` the other one.
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


# ---------------------------------------------------------------- the request


class RequestError(ChatNestError):
    """The request cannot be served as it is; sending it again does not help."""

    status = 400
    code = "bad_request"
    title = "Bad request"


class InvalidRequest(RequestError):
    """The body is not a chat request; ``detail`` names the place and what belongs there."""

    code = "invalid_request"
    title = "Invalid request"


class Unauthenticated(RequestError):
    """``identify`` did not say who is asking. ``challenge`` says how one does (RFC 9110, section
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
    """The profile exists, or not; either way this caller may not use it."""

    status = 403
    code = "forbidden_profile"
    title = "Profile not allowed"

    def __init__(self, allowed: list[str]) -> None:
        names = ", ".join(allowed) or "none"
        super().__init__(f"This profile is not open to you. Open to you: {names}.")


class NotFound(RequestError):
    """There is nothing at this path."""

    status = 404
    code = "not_found"
    title = "Not found"

    def __init__(self) -> None:
        super().__init__("There is nothing at this path.")


class MisdirectedRequest(RequestError):
    """``Host`` names another server: perhaps a page that has its own name lead here."""

    status = 421
    code = "misdirected_request"
    title = "Not this server's name"

    def __init__(self) -> None:
        super().__init__(
            "This server does not answer to the name in Host. Its operator can add that to "
            "server.allow_hosts."
        )


class MethodNotAllowed(RequestError):
    """RFC 9110, section 15.5.6: the answer carries Allow."""

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
    """The body did not arrive within its time."""

    status = 408
    code = "slow_body"
    title = "Body too slow"
    retryable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request body did not arrive within {seconds:g} seconds.")


class BodyTooLarge(RequestError):
    """The body has more bytes than are read."""

    status = 413
    code = "body_too_large"
    title = "Body too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit:,} bytes.")


class RequestTooLarge(RequestError):
    """More tokens than one request may use; 413 and not 429, since waiting never helps."""

    status = 413
    code = "request_too_large"
    title = "Request too large"

    def __init__(self, *, needed: int, limit: int) -> None:
        super().__init__(
            f"This message needs at least {needed:,} tokens together with its answer; "
            f"one request may use {limit:,}. A shorter message helps."
        )


class UnsupportedMediaType(RequestError):
    """Only JSON is read. It also keeps HTML forms of other origins out."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"

    def __init__(self) -> None:
        super().__init__("The request body must be application/json in UTF-8, not compressed.")


class HeadTooLarge(RequestError):
    """A part of the request's head is larger than what is read (RFC 6585, section 5)."""

    status = 431
    code = "head_too_large"
    title = "Request head too large"

    def __init__(self, part: str, most: int, unit: str, got: int) -> None:
        super().__init__(f"{part}: expected at most {most:,} {unit}, got {got:,}. Send less.")


class KeyReused(RequestError):
    """An Idempotency-Key came with another request before."""

    status = 422
    code = "idempotency_key_reused"
    title = "Idempotency-Key used before"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key came with another request before. A new request needs a new key."
        )


class ReplayUnavailable(RequestError):
    """Events that the reader has not seen are not kept any more."""

    status = 410
    code = "replay_unavailable"
    title = "Replay unavailable"

    def __init__(self) -> None:
        super().__init__("The beginning of this answer is not kept any more.")


# ---------------------------------------------------------------- limits and the ledger


class LimitExceeded(ChatNestError):
    """A limit refused the request, and nothing was counted against any limit.

    ``code`` tells the kind: ``rate_limited``, ``budget_exhausted`` or ``too_many_streams``; and
    ``limit`` is the name of the one that refused.
    """

    status = 429
    title = "Limit reached"
    problem_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        limit: str,
        retry_after: float | None,
        retryable: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.limit: str = limit
        self.retryable: bool = retryable
        self.code: str = code
        self.retry_after: float | None = retry_after
        self._headers = headers or {}

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    def fields(self) -> dict[str, object]:
        return {**super().fields(), "limit": self.limit}


class LedgerUnavailable(ChatNestError):
    """The books cannot be written, so nothing that costs money is started."""

    status = 503
    code = "ledger_unavailable"
    title = "Accounting unavailable"
    retryable = True

    def __init__(self, retry_after: float = 5.0) -> None:
        self.retry_after: float | None = retry_after
        super().__init__("Usage cannot be recorded at the moment, so no answer was started.")


class Overloaded(ChatNestError):
    """The worker is too far behind to begin another answer, or writes as many as it may."""

    status = 503
    code = "overloaded"
    title = "Too busy"
    retryable = True
    retry_after: float | None = 2.0

    def __init__(self) -> None:
        super().__init__("The server is too busy to begin an answer. Try again in a moment.")


class ServerShutdown(ChatNestError):
    """The process is about to end."""

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

    ``transient`` says whether one more attempt of ours, before the stream, makes sense;
    ``reached_model`` whether the model may have worked although nothing of an answer came, so
    that the input is charged. ``facts`` are for the log alone: ``code`` and ``param`` as the
    provider named them, which may be anything, and facts of ours.
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
    """No HTTP answer: refused, DNS, TLS, closed at once, or not HTTP at all."""

    code = "upstream_unavailable"
    title = "The model cannot be reached"
    transient = True


class UpstreamTimeout(UpstreamError):
    """The model took the request and then said nothing for too long."""

    status = 504
    code = "upstream_timeout"
    title = "The model did not answer in time"
    reached_model = True


class UpstreamOverloaded(UpstreamError):
    """The model's provider asks to come back later."""

    status = 503
    code = "upstream_overloaded"
    title = "The model is overloaded"
    transient = True


class UpstreamServerError(UpstreamError):
    """The model's provider failed inside: a 5xx."""

    code = "upstream_error"
    title = "The model's provider failed"
    transient = True


class UpstreamAccount(UpstreamError):
    """The operator's key, permission or quota: nothing that a client can mend."""

    status = 503
    code = "upstream_account"
    title = "The model is not available to this service"
    retryable = False


class UpstreamRejected(UpstreamError):
    """The provider did not take the request as chatnest made it."""

    code = "upstream_rejected"
    title = "The model did not take the request"
    retryable = False


class ContextLengthExceeded(UpstreamRejected):
    """The conversation does not fit the model's context window."""

    status = 400
    code = "context_length"
    title = "The conversation is too long for the model"


class UpstreamBadResponse(UpstreamError):
    """An answer that is no chat completion. It may have been billed, so nobody asks again."""

    code = "upstream_bad_response"
    title = "The model's answer could not be read"


class UpstreamInterrupted(UpstreamError):
    """The answer ended before the model said that it was finished, or because it failed."""

    code = "upstream_interrupted"
    title = "The answer was cut off"
    reached_model = True


class EmptyAnswer(UpstreamError):
    """The model finished and had written nothing. ``spent`` says whether its limit was used up,
    by thinking for the most part: then the same request fails again.
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
    """The model wrote more than it was asked for, and was stopped."""

    status = 502
    code = "answer_too_long"
    title = "The answer was longer than allowed"


class InternalError(ChatNestError):
    """A fault of chatnest or of a policy; the log has it, the client does not."""

    def __init__(self) -> None:
        super().__init__("Something went wrong on the server.")


class RunLost(ChatNestError):
    """The worker that wrote the answer is not heard of any more."""

    status = 503
    code = "run_lost"
    title = "The answer was lost"
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "The server that was writing this answer has ended. Ask again, with a new "
            "Idempotency-Key."
        )


class RunCancelled(ChatNestError):
    """The answer was cancelled by request."""

    status = 409
    code = "cancelled"
    title = "Cancelled"

    def __init__(self) -> None:
        super().__init__("This answer was cancelled.")


class ClientGone(ChatNestError):
    """The client left: there is nobody to tell. Who asks later with the same key is told."""

    status = 499
    code = "client_gone"
    title = "Client gone"

    def __init__(self) -> None:
        super().__init__(
            "Nobody was reading, so this answer was stopped. Ask again, with a new Idempotency-Key."
        )


class ClientStalled(ClientGone):
    """The client did not take what it was sent."""

    code = "client_stalled"
    title = "Client stalled"
