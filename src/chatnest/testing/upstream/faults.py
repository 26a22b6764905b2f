"""The faults of an upstream by name, for tests that go through all of them. No I/O.

``@pytest.mark.parametrize("name", faults.MID_STREAM)``, then ``faults.MID_STREAM[name]``.
"""

import math

from chatnest.testing.upstream.answers import Answer

__all__ = ["BEFORE_STREAM", "BROKEN_EVENTS", "FLOODS", "HARMLESS", "INTERRUPTED"]

_PIECES = 3

BEFORE_STREAM: dict[str, Answer] = {
    "close": Answer.close(),
    "close_on_accept": Answer.close_on_accept(),
    "not_http": Answer.not_http(),
    "silence": Answer.silence(),
    "rate_limited": Answer.rate_limited(),
    "rate_limited_long": Answer.rate_limited(retry_after=3600),
    "insufficient_quota": Answer.insufficient_quota(),
    "context_length": Answer.context_length(),
    "redirect_302": Answer.redirect(302),
    "redirect_307": Answer.redirect(307),
    "html": Answer.html(),
    "html_502": Answer.html(502),
    "empty_object": Answer.empty_object(),
    "busy_503": Answer.error(503, code="overloaded", kind="server_error", retry_after=120),
    **{
        f"error_{status}": Answer.error(status)
        for status in (400, 401, 403, 404, 413, 422, 500, 502, 503, 529)
    },
}
"""Answers that fail before the first event of a stream."""

INTERRUPTED: dict[str, Answer] = {
    "stall": Answer.stall(_PIECES),
    "reset": Answer.reset(_PIECES),
    "cut": Answer.cut(_PIECES),
    "unfinished": Answer.unfinished(_PIECES),
    "short_body": Answer.short_body(_PIECES),
    "bad_framing": Answer.bad_framing(_PIECES),
    "error_event": Answer.error_event(_PIECES),
    "error_event_integer": Answer.error_event(_PIECES, code=500),
    "done_without_finish_reason": Answer(finish_reason=None),
}
"""Answers with three pieces and no finish reason."""

BROKEN_EVENTS: dict[str, Answer] = {
    "bad_json": Answer.bad_json(2),
    "bad_utf8": Answer.bad_utf8(2),
    "null_chunk": Answer.null_chunk(2),
    "wrong_types": Answer.wrong_types(2),
}
"""Answers with two pieces, an unusable event, and the rest."""

FLOODS: dict[str, Answer] = {
    "huge_line": Answer.huge_line(),
    "endless_line": Answer.huge_line(math.inf),
    "endless": Answer.endless(),
    "million_tiny_chunks": Answer.tokens(1_000_000, "a", events_per_write=100),
    "more_than_max_tokens": Answer.tokens(10_000),
}
"""Answers that are larger than a client may accept."""

HARMLESS: dict[str, Answer] = {
    "crlf": Answer(crlf=True),
    "comments": Answer(comments=True),
    "null_first_delta": Answer(null_first_delta=True),
    "several_events_per_write": Answer(events_per_write=8),
    "split_at_1": Answer(split=1),
    "split_at_7": Answer(split=7),
    "split_characters": Answer(pieces=("Grüße", " 你好", " 👋🏽"), split=1),
    "no_usage": Answer(usage=None),
    "usage_zero": Answer(usage=(0, 0)),
    "usage_on_every_chunk": Answer(usage_on_every_chunk=True),
    "length": Answer(finish_reason="length"),
    "content_filter": Answer(finish_reason="content_filter"),
    "refusal": Answer(refusal=True),
}
"""Unusual but complete answers, which end in `done`."""
