"""AccessLog: an observer that logs one line for each turn and each refused request. No I/O."""

import hashlib
import hmac
import json
import logging
import re
import secrets
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec

from chatnest.amounts import amount_text
from chatnest.errors import ConfigurationError
from chatnest.identity.principals import is_anonymous
from chatnest.telemetry.base import Ended, Observation, Refused

__all__ = ["LOGGER", "AccessLog", "LineForm", "Principals"]

LOGGER: Final = "chatnest.access"
"""The name of the logger."""

_log: Final = logging.getLogger(LOGGER)

LineForm = Literal["text", "json"]
Principals = Literal["names", "all", "hashed"]

_SERVED: Final = re.compile(r"(?=.{1,80}$)[A-Za-z0-9]{1,12}(?:[._:/@-][A-Za-z0-9]{1,12})*")
"""A model's name, made of short words. A longer text from an upstream may contain a secret."""
_WORD: Final = re.compile(r"[a-z]+")
_REASON: Final = re.compile(r"[A-Za-z_]{1,32}")
_DIGITS: Final = 16
"""Hexadecimal digits of a hash that are shown: 64 bits."""
_MOST: Final = 1_000
"""Maximum principals whose hashes are kept."""
_NOTHING: Final = "0.00"
_MILLISECONDS: Final = 1_000
_DELETE: Final = "\x7f"
_IN_TEXT: Final = (
    *("profile", "model", "limit", "input_tokens", "output_tokens", "money"),
    *("first_token_ms", "total_ms", "request"),
)
"""The fields of a line of text."""
_TRACING: Final = "opentelemetry.trace"

_at: Final = datetime.fromtimestamp
_encode: Final = msgspec.json.Encoder().encode


class AccessLog:
    """Logs one line for each turn that ends, and for each refused request, on the logger
    ``chatnest.access`` at the level INFO. The message of the record is the whole line: printable
    ASCII, without a line break. By default it has no text of a conversation and no address.

    ``form`` is ``"json"`` or ``"text"``. ``principals`` is ``"names"`` to log names unchanged and
    addresses as a keyed hash, ``"hashed"`` to hash both, or ``"all"`` to log both unchanged. The
    hash is HMAC-SHA-256 under ``key``. The default key is random, so hashes change with each
    start. ``currency`` is the currency of the amounts. Raises ConfigurationError.
    """

    sees: tuple[type[Observation], ...] = (Refused, Ended)

    def __init__(
        self,
        form: LineForm = "json",
        *,
        principals: Principals = "names",
        key: bytes | None = None,
        currency: str = "USD",
    ) -> None:
        for name, value, words in (
            ("form", form, get_args(LineForm)),
            ("principals", principals, get_args(Principals)),
        ):
            if value not in words:
                raise ConfigurationError(
                    f"access log: {name}: expected one of {', '.join(words)}, got {value!r}."
                )
        self._is_text = form == "text"
        self._shows_names = principals != "hashed"
        self._shows_all = principals == "all"
        self._key = key if key is not None else secrets.token_bytes(32)
        self._currency = currency
        self._shown: dict[str, str] = {}

    def observe(self, event: Observation) -> None:
        """See Observer."""
        if not _log.isEnabledFor(logging.INFO):
            return
        if not isinstance(event, Ended):
            if isinstance(event, Refused):
                self._write(self._refused(event))
            return
        facts, first, principal = event.facts, event.first_piece_seconds, event.principal
        reason = event.finish_reason
        self._write(
            {
                "time": _at(event.time, UTC).isoformat(timespec="milliseconds"),
                "request": event.id,
                "trace": _trace() if _TRACING in sys.modules else None,
                "principal": self._shown.get(principal) or self._show(principal),
                "groups": dict(event.groups),
                "plan": event.plan,
                "profile": event.profile,
                "model": event.model,
                "response_model": _served(event) if facts.served_model else None,
                "outcome": event.outcome,
                "finish_reason": reason if reason and _REASON.fullmatch(reason) else None,
                "status": event.status,
                "limit": None,
                "input_tokens": event.input_tokens,
                "cached_tokens": facts.cached_tokens,
                "output_tokens": event.output_tokens,
                "reasoning_tokens": facts.reasoning_tokens,
                "money": amount_text(event.money) if event.money else _NOTHING,
                "currency": self._currency,
                "source": event.source,
                "held_tokens": event.held,
                "held_money": amount_text(event.held_money) if event.held_money else _NOTHING,
                "first_token_ms": None if first is None else round(first * _MILLISECONDS),
                "total_ms": round(event.seconds * _MILLISECONDS),
                "attempts": event.attempts,
                "price": facts.price or None,
            }
        )

    def _write(self, facts: dict[str, Any]) -> None:
        line = _text(facts, self._currency) if self._is_text else _json(facts)
        # info() would spend half of its time on a search for the caller's frame.
        _log.handle(_log.makeRecord(_log.name, logging.INFO, __file__, 0, "%s", (line,), None))

    def _refused(self, event: Refused) -> dict[str, Any]:
        principal = event.principal
        return {
            "time": _at(event.time, UTC).isoformat(timespec="milliseconds"),
            "request": event.id,
            "trace": _trace() if _TRACING in sys.modules else None,
            "principal": None if principal is None else self._show(principal),
            "groups": dict(event.groups or {}),
            "plan": event.plan,
            "profile": event.profile,
            "model": event.model,
            "outcome": event.code,
            "status": event.status,
            "limit": event.limit,
            "retry_after": event.retry_after,
            "total_ms": round(event.seconds * _MILLISECONDS),
        }

    def _show(self, principal: str) -> str:
        """The principal as it is logged."""
        if self._shows_all or (self._shows_names and not is_anonymous(principal)):
            found = principal
        else:
            kind = "addr" if is_anonymous(principal) else principal.partition(":")[0]
            text = principal.encode(errors="surrogatepass")
            found = f"{kind}#{hmac.digest(self._key, text, hashlib.sha256).hex()[:_DIGITS]}"
        if len(self._shown) >= _MOST:
            self._shown.clear()
        self._shown[principal] = found
        return found


def _trace() -> str | None:
    """The id of the trace of OpenTelemetry's current span, or None."""
    span = sys.modules[_TRACING].get_current_span()
    number: int = span.get_span_context().trace_id
    return f"{number:032x}" if number else None


def _served(event: Ended) -> str:
    """The model that the upstream reports, or ``other`` if its family is not the requested one."""
    served = event.facts.served_model
    asked = event.calls[-1].model if event.calls else event.model
    family = _WORD.findall(served.rpartition("/")[2].lower())[:1]
    is_known = _SERVED.fullmatch(served) and set(family) & set(_WORD.findall(asked.lower()))
    return served if is_known else "other"


def _json(facts: dict[str, Any]) -> str:
    try:
        line = _encode(facts).decode()
    except UnicodeEncodeError:  # a name with half of a pair of surrogates
        line = _DELETE
    # Some programs end a line at U+0085 or U+2028, and a terminal obeys control characters.
    if line.isascii() and _DELETE not in line:
        return line
    return json.dumps(facts, separators=(",", ":")).replace(_DELETE, "\\u007f")


def _text(facts: dict[str, Any], currency: str) -> str:
    """A line for people: the time, the status and the outcome, then the known facts."""
    words = [facts["time"], str(facts["status"]), facts["outcome"]]
    if (principal := facts["principal"]) is not None:
        words.append(f"principal={_word(principal)}")
    for name in _IN_TEXT:
        value = facts.get(name)
        if value is not None and value != _NOTHING:
            words.append(f"{name}={value}{currency if name == 'money' else ''}")
    for name, value in facts["groups"].items():
        words.append(f"group.{name}={_word(value)}")
    line = " ".join(words)
    return line if line.isascii() and line.isprintable() else json.dumps(line)[1:-1]


def _word(value: str) -> str:
    """A plain value unchanged, any other as a JSON string."""
    plain = value.isascii() and value.isprintable() and not set(' "=').intersection(value)
    return value if plain else json.dumps(value)
