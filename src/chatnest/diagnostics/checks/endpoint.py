"""Checks of a deployed chat: from a probe's observations to verdicts and advice. No I/O."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Final

import msgspec

from chatnest._util.addresses import is_loopback
from chatnest.diagnostics.checks.base import Check, fail, ok, skip, warn
from chatnest.diagnostics.observations import (
    MAX_BYTES,
    PING_SECONDS,
    Answer,
    Observations,
    Reply,
)

__all__ = ["ENDPOINT_CHECKS"]

_HELD_BACK: Final = 0.15
"""Minimum delay of a ping, in seconds, that counts as held back. A busy machine may cause less."""
_LATE: Final = 0.05
"""Maximum seconds, besides a round trip, in which a server notices a disconnect at once. A server
that notices only by a failed send takes the time between two frames.
"""
_LONG_ENOUGH: Final = 0.5
"""Minimum seconds of an answer that can be judged: two pings arrive in them."""

_BUFFERS: Final = {
    "nginx": "in nginx's location of the chat, remove proxy_ignore_headers X-Accel-Buffering, or "
    "set proxy_buffering off",
    "caddy": "in Caddy, remove encode with a small minimum_length, or exclude the chat from it",
    "": "let the proxies in between pass text/event-stream on at once and uncompressed, as "
    "X-Accel-Buffering: no and Cache-Control: no-transform request",
}
_IGNORES: Final = {
    "nginx": "in nginx's location of the chat, remove proxy_ignore_client_abort",
    "caddy": "in Caddy's reverse_proxy, remove flush_interval -1",
    "": "let the proxies in between close their connection to the server when a client disconnects",
}
_REPLACES: Final = {
    "nginx": "in nginx's location of the chat, remove proxy_intercept_errors",
    "": "let the proxies in between pass on the server's own errors",
}

_FLAWS: Final[Mapping[str, str]] = {
    "cut": "cut off",
    "endless": f"longer than {MAX_BYTES // 1024} KiB",
    "garbled": "not valid {encoding}",
    "layered": "compressed more than once, by {encoding}",
    "slow": "not complete in time",
}
_REMEDIES: Final[Mapping[str, str]] = {
    "cut": "check the timeouts and the logs of the proxies in between",
    "endless": "check which server answers: chatnest does not send this much",
    "garbled": "check the proxies in between: one sets Content-Encoding and sends other data",
    "layered": "let at most one of the proxies in between compress",
    "slow": "check the proxies in between, and the server's log",
}
_MAX_TOKENS: Final = 10**12
"""Maximum plausible tokens in a receipt. A receipt with more is ignored."""


def _address(observed: Observations) -> Check | None:
    if observed.scheme == "https" or not observed.has_secrets or is_loopback(observed.host):
        return None
    return warn(
        "address",
        "not encrypted: others on the network can read your key",
        "use https:// for the chat",
    )


def _limits(observed: Observations) -> Check:
    name, reply = "limits", observed.limits
    if observed.limits.held is not None:
        return ok(name, f"answers in {_ms(reply.seconds)}{_by(reply)}")
    if reply.status in {401, 403}:
        return fail(
            name,
            f"{reply.status}: the request has no valid credentials",
            "pass the header of your clients, such as --header 'Authorization: Bearer KEY'",
        )
    if reply.status in range(300, 400):
        return fail(
            name,
            f"{reply.status}: the address redirects",
            f"use {reply.headers.get('location', 'the address it redirects to')}",
        )
    if reply.code:
        return fail(name, f"{reply.status} {reply.code}", "see the errors page of the reference")
    return _foreign(
        fail(
            name,
            f"{_describe(reply)}{_by(reply)}",
            f"give the URL that clients POST to, and route GET {observed.path}/limits to the chat",
        ),
        reply,
    )


def _runs(observed: Observations) -> Check | None:
    name, reply = "runs", observed.run
    if reply is None:
        return None
    if reply.code == "not_found":
        return ok(name, "can be resumed and cancelled")
    found = f"{_describe(reply)} for {observed.path}/runs/ID"
    advice = "route its GET and DELETE to the chat; otherwise no client can resume a lost answer"
    return _foreign(warn(name, found, advice), reply)


def _errors(observed: Observations) -> Check | None:
    name, reply = "errors", observed.refusal
    if reply is None:
        return None
    if reply.code:
        return ok(name, f"a refused request gets a problem document, {reply.code}")
    found = f"a refused request gets {_describe(reply)}"
    return _foreign(fail(name, found, _advice_for(_REPLACES, observed)), reply)


def _frames(observed: Observations) -> Check | None:
    name, answer = "frames", observed.answer
    if answer is None or answer.refusal is not None or answer.error or not answer.frames:
        return _no_stream(name, observed)
    held_back = _held_back(answer.times("ping"))
    if held_back >= _HELD_BACK:
        found = f"held back{_compressed(answer)}, by at least {held_back:.1f} s"
        return fail(name, found, _advice_for(_BUFFERS, observed))
    if answer.ended in _FLAWS:
        flaw = _flaw(answer.ended, answer.headers)
        found = f"after {answer.frames[-1][1]:.1f} s, the stream is {flaw}"
        return fail(name, found, _REMEDIES[answer.ended])
    if answer.lasted < _LONG_ENOUGH:
        return skip(name, *_too_short(answer))
    found = f"arrive at once{_compressed(answer)}: {len(answer.frames)} in {answer.lasted:.1f} s"
    return ok(name, found)


def _pings(observed: Observations) -> Check | None:
    name, answer = "pings", observed.answer
    if answer is None:
        return _no_stream(name, observed)
    if not answer.frames:
        return skip(name, "no frame arrived", "see frames")
    pings = answer.times("ping")
    if len(pings) > 1:
        late = _held_back(pings) >= _HELD_BACK
        return ok(name, f"pass: {len(pings)}, {'all late' if late else 'in time'}")
    if answer.lasted < 2 * _LONG_ENOUGH:
        return skip(name, *_too_short(answer))
    return fail(
        name,
        f"{len(pings)} in {answer.lasted:.1f} s, although the request asks for 5 a second",
        "let the proxies in between pass on the query and every event",
    )


def _disconnect(observed: Observations) -> Check | None:
    name, answer = "leaving", observed.answer
    if answer is None:
        return _no_stream(name, observed)
    if answer.ended or answer.refusal is not None:
        return skip(name, "the answer ended before the check could disconnect", "see frames")
    outcome = None if observed.receipt is None else observed.receipt.get("outcome")
    if outcome == "done":
        return skip(name, "the answer ended on its own before the server noticed", "try again")
    return _noticed(name, observed, answer, was_noticed=outcome == "client_gone")


def _noticed(name: str, observed: Observations, answer: Answer, *, was_noticed: bool) -> Check:
    if observed.gone is None and was_noticed:
        return ok(name, "the server notices; other requests of the same user hide the time")
    if observed.gone is None:
        found = "the server does not notice: the model goes on, at your cost"
        return fail(name, found, _advice_for(_IGNORES, observed))
    trip = observed.limits.seconds
    found = f"the server notices within {_ms(observed.gone)}; a round trip takes {_ms(trip)}"
    if observed.gone - trip <= max(_LATE, answer.lasted / max(1, len(answer.frames))):
        return ok(name, found)
    found += "; perhaps only when it sends the next frames"
    return warn(name, found, _advice_for(_IGNORES, observed))


def _cost(observed: Observations) -> Check | None:
    if observed.answer is None:
        return None
    charged = None if observed.receipt is None else observed.receipt.get("charged")
    if not isinstance(charged, int) or not 0 <= charged < _MAX_TOKENS:
        return skip("cost", "the server sent no receipt", "see chatnest ledger show")
    return ok("cost", f"{charged:,} tokens for this check")


ENDPOINT_CHECKS: tuple[Callable[[Observations], Check | None], ...] = (
    *(_address, _limits, _runs, _errors),
    *(_frames, _pings, _disconnect, _cost),
)


# ---------------------------------------------------------------- shared


def _held_back(pings: list[float]) -> float:
    """Return the minimum delay of a ping, from pings that arrive closer together than sent."""
    early = [number * PING_SECONDS - at for number, at in enumerate(pings)]
    earliest = accumulate(early, min)
    return max((mine - least for mine, least in zip(early, earliest, strict=True)), default=0.0)


def _no_stream(name: str, observed: Observations) -> Check | None:
    """Return the verdict for an answer without frames, or None if the address is wrong."""
    answer = observed.answer
    if answer is None:
        untried = skip(name, "not tried", "run without --dry, which requests one short answer")
        return None if observed.refusal is None else untried
    if answer.refusal is not None:
        return _refused(name, answer.refusal)
    if answer.error:
        found = f"the answer ended with the error {answer.error}"
        return fail(name, found, "see the errors page of the reference, and the server's log")
    if answer.ended in _FLAWS and answer.ended != "cut":
        found = f"no frame can be read: the stream is {_flaw(answer.ended, answer.headers)}"
        return fail(name, found, _REMEDIES[answer.ended])
    if answer.was_held:
        found = "no frame arrived while the server was writing: frames are held back"
        return fail(name, found, _advice_for(_BUFFERS, observed))
    found = "no frame arrived" if answer.ended != "cut" else "the connection closed without a frame"
    if answer.rest:
        found += f"; an incomplete one has {answer.rest:,} bytes"
    return fail(name, found, "check that POST reaches the server, and read the logs")


def _refused(name: str, reply: Reply) -> Check:
    shown = f"{reply.status} {reply.code}" if reply.code else _describe(reply)
    found = f"{shown}{',' if reply.flaw else ''} instead of a stream"
    after = reply.headers.get("retry-after", "")
    if after.isdecimal():
        return fail(name, found, f"try again in {after} s")
    if reply.flaw is not None:
        return fail(name, found, _REMEDIES[reply.flaw])
    errors = "see the errors page of the reference, and the server's log"
    return fail(name, found, errors if reply.code else "see the logs of the proxies in between")


def _too_short(answer: Answer) -> tuple[str, str]:
    return f"the answer took {answer.lasted:.1f} s, too short to judge", "try a slower model"


def _compressed(answer: Answer) -> str:
    encoding = answer.headers.get("content-encoding")
    return f", compressed by {encoding}" if encoding else ""


def _advice_for(advice: dict[str, str], observed: Observations) -> str:
    server = observed.limits.headers.get("server", "").lower()
    return next((text for name, text in advice.items() if name and name in server), advice[""])


def _foreign(check: Check, reply: Reply) -> Check:
    """Complete a verdict about a response that does not come from chatnest, or is flawed."""
    if reply.flaw is None:
        return msgspec.structs.replace(check, found=f"{check.found}: not from chatnest")
    return msgspec.structs.replace(check, advice=_REMEDIES[reply.flaw])


def _describe(reply: Reply) -> str:
    if not reply.status:
        return "no answer" + (f" in {reply.seconds:.1f} s" if reply.flaw == "slow" else "")
    shown = f"{reply.status} {reply.media_type or 'without a content type'}"
    return shown if reply.flaw is None else f"{shown}, {_flaw(reply.flaw, reply.headers)}"


def _flaw(flaw: str, headers: Mapping[str, str]) -> str:
    return _FLAWS[flaw].format(encoding=headers.get("content-encoding", ""))


def _by(reply: Reply) -> str:
    server = reply.headers.get("server")
    return f", by {server}" if server else ""


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
