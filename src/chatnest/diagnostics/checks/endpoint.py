"""Checks of a deployed chat: what a visit has seen, and what to set where. No I/O."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Final

import msgspec

from chatnest._util.addresses import is_loopback
from chatnest.diagnostics.checks.base import Check, fail, ok, skip, warn
from chatnest.diagnostics.seen import MOST_BYTES, PING_SECONDS, Answer, Reply, Seen

__all__ = ["ENDPOINT_CHECKS"]

_HELD_BACK: Final = 0.15
"""Seconds; below, it may be the machine that was busy."""
_LATE: Final = 0.05
"""Seconds, besides a round trip, in which a server hears of a client that has left. One that hears
by failing to send takes as long as frames are apart.
"""
_LONG_ENOUGH: Final = 0.5
"""Seconds of an answer in which two pings come."""

_BUFFERS: Final = {
    "nginx": "in nginx's location of the chat, leave out proxy_ignore_headers X-Accel-Buffering, "
    "or set proxy_buffering off",
    "caddy": "in Caddy, leave out encode with a small minimum_length, or exclude the chat from it",
    "": "have what is in between pass text/event-stream on at once, uncompressed: it is told so by "
    "X-Accel-Buffering: no and Cache-Control: no-transform",
}
_IGNORES: Final = {
    "nginx": "in nginx's location of the chat, leave out proxy_ignore_client_abort",
    "caddy": "in Caddy's reverse_proxy, leave out flush_interval -1",
    "": "have what is in between close its connection to the server when its client has left",
}
_REPLACES: Final = {
    "nginx": "in nginx's location of the chat, leave out proxy_intercept_errors",
    "": "have what is in between pass the server's own errors on",
}

_FLAWS: Final[Mapping[str, str]] = {
    "cut": "cut off",
    "endless": f"more than {MOST_BYTES // 1024} KiB, without an end",
    "garbled": "not the {encoding} that it says it is",
    "layered": "compressed more than once, by {encoding}",
    "slow": "without an end in time",
}
_MENDS: Final[Mapping[str, str]] = {
    "cut": "look at what is in between: its timeouts, and its log",
    "endless": "see who it is that answers: chatnest does not",
    "garbled": "look at what is in between: it sets Content-Encoding, and sends something else",
    "layered": "have one of those that are in between compress it, or none",
    "slow": "look at what is in between, and at the server's log",
}
_MOST_TOKENS: Final = 10**12
"""What is more is no receipt."""


def _address(seen: Seen) -> Check | None:
    if seen.scheme == "https" or not seen.has_secrets or is_loopback(seen.host):
        return None
    return warn(
        "address", "not encrypted: who is on the way reads your key", "use https:// for the chat"
    )


def _limits(seen: Seen) -> Check:
    name, reply = "limits", seen.limits
    if seen.limits.held is not None:
        return ok(name, f"answers in {_ms(reply.seconds)}{_by(reply)}")
    if reply.status in {401, 403}:
        return fail(
            name,
            f"{reply.status}: it does not know who is asking",
            "pass what your clients send, such as --header 'Authorization: Bearer KEY'",
        )
    if reply.status in range(300, 400):
        return fail(
            name,
            f"{reply.status}: it is elsewhere",
            f"see {reply.headers.get('location', '')}",
        )
    if reply.code:
        return fail(name, f"{reply.status} {reply.code}", "see the errors page of the reference")
    return _others(
        fail(
            name,
            f"{_what(reply)}{_by(reply)}",
            f"give the address that you POST to, and route GET {seen.path}/limits to the chat",
        ),
        reply,
    )


def _runs(seen: Seen) -> Check | None:
    name, reply = "runs", seen.run
    if reply is None:
        return None
    if reply.code == "not_found":
        return ok(name, "can be picked up and cancelled")
    found = f"{_what(reply)} for {seen.path}/runs/ID"
    advice = "route GET and DELETE of it to the chat, or a lost answer cannot be picked up"
    return _others(warn(name, found, advice), reply)


def _errors(seen: Seen) -> Check | None:
    name, reply = "errors", seen.refusal
    if reply is None:
        return None
    if reply.code:
        return ok(name, f"a refused request is a problem document, {reply.code}")
    found = f"a refused request brings {_what(reply)}"
    return _others(fail(name, found, _of(_REPLACES, seen)), reply)


def _frames(seen: Seen) -> Check | None:
    name, answer = "frames", seen.answer
    if answer is None or answer.refusal is not None or answer.error or not answer.frames:
        return _no_stream(name, seen)
    held_back = _held_back(answer.times("ping"))
    if held_back >= _HELD_BACK:
        found = f"held back{_compressed(answer)}, by {held_back:.1f} s and more"
        return fail(name, found, _of(_BUFFERS, seen))
    if answer.ended in _FLAWS:
        found = f"after {answer.frames[-1][1]:.1f} s, it is {_flaw(answer.ended, answer.headers)}"
        return fail(name, found, _MENDS[answer.ended])
    if answer.lasted < _LONG_ENOUGH:
        return skip(name, *_too_short(answer))
    found = f"come at once{_compressed(answer)}: {len(answer.frames)} in {answer.lasted:.1f} s"
    return ok(name, found)


def _pings(seen: Seen) -> Check | None:
    name, answer = "pings", seen.answer
    if answer is None:
        return _no_stream(name, seen)
    if not answer.frames:
        return skip(name, "no frame came", "see frames")
    pings = answer.times("ping")
    if len(pings) > 1:
        late = _held_back(pings) >= _HELD_BACK
        return ok(name, f"pass: {len(pings)}, {'all late' if late else 'in time'}")
    if answer.lasted < 2 * _LONG_ENOUGH:
        return skip(name, *_too_short(answer))
    return fail(
        name,
        f"{len(pings)} in {answer.lasted:.1f} s, and 5 a second were asked for",
        "have what is in between pass the query on, and every event",
    )


def _leaving(seen: Seen) -> Check | None:
    name, answer = "leaving", seen.answer
    if answer is None:
        return _no_stream(name, seen)
    if answer.ended or answer.refusal is not None:
        return skip(name, "there was no answer any more that could be left", "see frames")
    outcome = None if seen.receipt is None else seen.receipt.get("outcome")
    if outcome == "done":
        return skip(name, "the answer ended by itself meanwhile", "try again")
    return _heard(name, seen, answer, others_ask=outcome == "client_gone")


def _heard(name: str, seen: Seen, answer: Answer, *, others_ask: bool) -> Check:
    if seen.gone is None and others_ask:
        return ok(name, "the server hears of it; when, others who ask as you do keep from telling")
    if seen.gone is None:
        found = "the server does not hear of it: the model goes on, and is paid"
        return fail(name, found, _of(_IGNORES, seen))
    trip = seen.limits.seconds
    found = f"the server hears of it, within {_ms(seen.gone)}; a round trip takes {_ms(trip)}"
    if seen.gone - trip <= max(_LATE, answer.lasted / max(1, len(answer.frames))):
        return ok(name, found)
    found += "; perhaps it hears by its next frames alone"
    return warn(name, found, _of(_IGNORES, seen))


def _cost(seen: Seen) -> Check | None:
    if seen.answer is None:
        return None
    charged = None if seen.receipt is None else seen.receipt.get("charged")
    if not isinstance(charged, int) or not 0 <= charged < _MOST_TOKENS:
        return skip(
            "cost", "the server gave no receipt", "look at the ledger: chatnest ledger show"
        )
    return ok("cost", f"{charged:,} tokens for this check")


ENDPOINT_CHECKS: tuple[Callable[[Seen], Check | None], ...] = (
    *(_address, _limits, _runs, _errors),
    *(_frames, _pings, _leaving, _cost),
)


# ---------------------------------------------------------------- what they share


def _held_back(pings: list[float]) -> float:
    """For how long one of them was held back at least: any two were sent further apart."""
    early = [number * PING_SECONDS - at for number, at in enumerate(pings)]
    earliest = accumulate(early, min)
    return max((mine - least for mine, least in zip(early, earliest, strict=True)), default=0.0)


def _no_stream(name: str, seen: Seen) -> Check | None:
    """Why there is nothing to judge a stream by. None where not even its address is right."""
    answer = seen.answer
    if answer is None:
        untried = skip(name, "not tried", "without --dry, one short answer tells")
        return None if seen.refusal is None else untried
    if answer.refusal is not None:
        return _refused(name, answer.refusal)
    if answer.error:
        found = f"the answer ended in an error, {answer.error}"
        return fail(name, found, "see the errors page of the reference, and the server's log")
    if answer.ended in _FLAWS and answer.ended != "cut":
        found = f"none can be read: it is {_flaw(answer.ended, answer.headers)}"
        return fail(name, found, _MENDS[answer.ended])
    if answer.was_held:
        found = "none came while the answer was being written: they are held back"
        return fail(name, found, _of(_BUFFERS, seen))
    found = "none came" if answer.ended != "cut" else "the connection was closed instead"
    if answer.rest:
        found += f"; of one, {answer.rest:,} bytes without an end"
    return fail(name, found, "see whether POST reaches the server, and what the logs say")


def _refused(name: str, reply: Reply) -> Check:
    what = f"{reply.status} {reply.code}" if reply.code else _what(reply)
    found = f"{what}{',' if reply.flaw else ''} instead of a stream"
    after = reply.headers.get("retry-after", "")
    if after.isdecimal():
        return fail(name, found, f"try again in {after} s")
    if reply.flaw is not None:
        return fail(name, found, _MENDS[reply.flaw])
    errors = "see the errors page of the reference, and the server's log"
    return fail(name, found, errors if reply.code else "see the log of what is in between")


def _too_short(answer: Answer) -> tuple[str, str]:
    return f"the answer took {answer.lasted:.1f} s: too short to tell", "ask a slower model"


def _compressed(answer: Answer) -> str:
    encoding = answer.headers.get("content-encoding")
    return f", compressed by {encoding}" if encoding else ""


def _of(advice: dict[str, str], seen: Seen) -> str:
    server = seen.limits.headers.get("server", "").lower()
    return next((said for name, said in advice.items() if name and name in server), advice[""])


def _others(check: Check, reply: Reply) -> Check:
    """``check`` as it is of a reply that is whole, and not of chatnest's making."""
    if reply.flaw is None:
        return msgspec.structs.replace(check, found=f"{check.found}: not chatnest's")
    return msgspec.structs.replace(check, advice=_MENDS[reply.flaw])


def _what(reply: Reply) -> str:
    if not reply.status:
        return "no answer" + (f" in {reply.seconds:.1f} s" if reply.flaw == "slow" else "")
    what = f"{reply.status} {reply.media_type or 'without a type'}"
    return what if reply.flaw is None else f"{what}, {_flaw(reply.flaw, reply.headers)}"


def _flaw(flaw: str, headers: Mapping[str, str]) -> str:
    return _FLAWS[flaw].format(encoding=headers.get("content-encoding", ""))


def _by(reply: Reply) -> str:
    server = reply.headers.get("server")
    return f", by {server}" if server else ""


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
