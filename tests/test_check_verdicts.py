"""What ``chatnest check`` makes of what it has seen: levels, words, advice; no network."""

from typing import Any

import pytest

from chatnest.diagnostics.checks import Check
from chatnest.diagnostics.checks.endpoint import ENDPOINT_CHECKS
from chatnest.diagnostics.observations import Answer, Observations, Reply

LIMITS = {"limits": [{"name": "tokens", "held": 0}, {"name": "streams", "held": 0}]}


def reply(status: int, document: Any = None, **fields: Any) -> Reply:
    is_problem = isinstance(document, dict) and "code" in document
    given = {
        "status": status,
        "media_type": "application/problem+json" if is_problem else "application/json",
        "headers": {},
        "document": document,
        "seconds": 0.01,
    }
    return Reply(**{**given, **fields})


def answer(*pings: float, **fields: Any) -> Answer:
    """A second of tokens, with pings at these times."""
    frames = [
        ("start", 0.0),
        *((("token", n / 50)) for n in range(51)),
        *(("ping", p) for p in pings),
    ]
    return Answer(**{"frames": sorted(frames, key=lambda frame: frame[1]), **fields})


def seen(**fields: Any) -> Observations:
    given = {
        "scheme": "https",
        "host": "chat.example.org",
        "path": "/api/chat",
        "has_secrets": True,
        "limits": reply(200, LIMITS),
        "run": reply(404, {"code": "not_found"}),
        "refusal": reply(400, {"code": "invalid_request"}),
        "answer": answer(0.2, 0.4, 0.6, 0.8),
        "gone": 0.02,
        "receipt": {"outcome": "client_gone", "charged": 1234, "was_running": False},
    }
    return Observations(**{**given, **fields})


def verdicts(**fields: Any) -> dict[str, Check]:
    checks = [make(seen(**fields)) for make in ENDPOINT_CHECKS]
    return {check.name: check for check in checks if check is not None}


def test_all_is_well():
    found = verdicts()
    assert {check.level for check in found.values()} == {"ok"}
    assert found["cost"].found == "1,234 tokens for this check"
    assert "address" not in found


@pytest.mark.parametrize(
    ("scheme", "host", "secrets", "is_told"),
    [
        ("http", "chat.example.org", True, True),
        ("http", "chat.example.org", False, False),
        ("http", "127.0.0.1", True, False),
        ("http", "localhost", True, False),
        ("http", "10.0.0.7", True, True),
    ],
)
def test_a_key_that_everybody_on_the_way_reads(scheme, host, secrets, is_told):
    found = verdicts(scheme=scheme, host=host, has_secrets=secrets)
    assert ("address" in found) is is_told


@pytest.mark.parametrize(
    ("limits", "words", "advice"),
    [
        (reply(401, {"code": "unauthenticated"}), "401: the request has no valid cred", "--header"),
        (reply(403, media_type="text/html"), "403: the request has no valid cred", "--header"),
        (reply(503, {"code": "ledger_unavailable"}), "503 ledger_unavailable", "errors page"),
        (
            reply(301, headers={"location": "https://x/"}),
            "301: the address redirects",
            "use https://x/",
        ),
        (
            reply(404, media_type="text/html"),
            "404 text/html: not from",
            "route GET /api/chat/limits",
        ),
        (
            reply(200, media_type="", headers={"server": "Apache"}),
            "200 without a content type, by Apa",
            "/l",
        ),
        (reply(200, {"limits": 7}), "200 application/json: not from", "/limits"),
        (reply(200, {"limits": [{"name": "x"}]}), "200 application/json: not from", "/limits"),
        (reply(200, []), "200 application/json: not from", "/limits"),
    ],
)
def test_an_address_that_is_none(limits, words, advice):
    found = verdicts(limits=limits, run=None, refusal=None, answer=None, receipt=None)
    assert list(found) == ["limits"]
    assert found["limits"].level == "fail"
    assert found["limits"].found.startswith(words)
    assert advice in found["limits"].advice


def test_answers_count_where_answers_are_counted_and_tokens_elsewhere():
    both = [{"name": "tokens", "held": 400}, {"name": "streams", "held": 1}]
    assert reply(200, {"limits": both}).held == 1
    assert reply(200, {"limits": both[:1]}).held == 400
    assert reply(200, {"limits": []}).held == 0


@pytest.mark.parametrize("charged", ["12", None, [12], 1.5])
def test_a_receipt_without_a_number_is_none(charged):
    found = verdicts(receipt={"outcome": ["done"], "charged": charged})
    assert found["cost"].level == "skip"


def test_a_stream_that_is_garbled_from_some_frame_on():
    damaged = answer(0.2, 0.4, ended="garbled", headers={"content-encoding": "br"})
    found = verdicts(answer=damaged)
    assert found["frames"].level == "fail"
    assert found["frames"].found == "after 1.0 s, the stream is not valid br"
    assert "Content-Encoding" in found["frames"].advice
    assert found["leaving"].level == "skip"


@pytest.mark.parametrize(
    ("server", "advice"),
    [
        ("nginx/1.22.1", "proxy_intercept_errors"),
        ("Caddy, uvicorn", "the proxies in between"),
        ("cloudflare", "the proxies in between"),
    ],
)
def test_errors_that_somebody_else_replaces(server, advice):
    limits = reply(200, LIMITS, headers={"server": server})
    found = verdicts(limits=limits, refusal=reply(400, media_type="text/html"))["errors"]
    assert found.level == "fail"
    assert advice in found.advice


@pytest.mark.parametrize(
    ("pings", "level"),
    [
        ((0.2, 0.4, 0.6, 0.8), "ok"),
        ((0.2, 0.5, 0.6, 0.8), "ok"),  # by a busy machine's tenth of a second
        ((0.2, 0.9, 1.0, 1.01), "fail"),
        ((0.9, 0.9, 0.9, 0.9), "fail"),
        ((0.2, 5.0, 5.2, 5.4), "ok"),  # a ping that did not come is not one that came late
        ((0.2,), "ok"),
        ((), "ok"),
    ],
)
def test_pings_that_come_together_were_held_back(pings, level):
    assert verdicts(answer=answer(*pings))["frames"].level == level


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        (answer(), "fail", "0 in 1.0 s, although the request asks for 5 a second"),
        (answer(0.2), "fail", "1 in 1.0 s"),
        (answer(0.9, 0.9), "ok", "pass: 2, all late"),
        (answer(0.2, 0.4), "ok", "pass: 2, in time"),
        (
            Answer(frames=[("start", 0.1), ("done", 0.2)], ended="frame"),
            "skip",
            "the answer took 0.1",
        ),
        (Answer(), "skip", "no frame arrived"),
    ],
)
def test_pings(given, level, words):
    found = verdicts(answer=given)["pings"]
    assert found.level == level
    assert found.found.startswith(words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            Answer(was_held=True),
            "no frame arrived while the server was writing: frames are held back",
        ),
        (Answer(was_held=True, ended="unseen"), "no frame arrived while the server was writing"),
        (Answer(), "no frame arrived"),
        (Answer(ended="cut"), "the connection closed without a frame"),
        (answer(0.2, 0.4, ended="cut"), "after 1.0 s, the stream is cut off"),
        (
            answer(error="upstream_timeout", ended="frame"),
            "the answer ended with the error upstream_t",
        ),
        (Answer(refusal=reply(504, media_type="text/html")), "504 text/html instead of a stream"),
        (Answer(refusal=reply(402, {"code": "mine"})), "402 mine instead of a stream"),
    ],
)
def test_streams_that_are_none(given, words):
    found = verdicts(answer=given, gone=None, receipt=None)
    assert found["frames"].level == "fail"
    assert found["frames"].found.startswith(words)
    assert found["cost"].level == "skip"


@pytest.mark.parametrize(
    ("gone", "outcome", "level", "words"),
    [
        (
            0.06,
            "client_gone",
            "ok",
            "the server notices within 60 ms; a round trip takes 10 ms",
        ),
        (
            0.07,
            "client_gone",
            "warn",
            "the server notices within 70 ms; a round trip takes 10",
        ),
        (None, "client_gone", "ok", "the server notices; other requests of the same user hide"),
        (
            None,
            "cancelled",
            "fail",
            "the server does not notice: the model goes on, at your cost",
        ),
        (None, "", "fail", "the server does not notice: the model"),
        (0.2, "done", "skip", "the answer ended on its own before the server noticed"),
    ],
)
def test_leaving(gone, outcome, level, words):
    receipt = {"outcome": outcome, "charged": 9} if outcome else None
    found = verdicts(gone=gone, receipt=receipt)["leaving"]
    assert found.level == level
    assert found.found.startswith(words)


def test_what_is_heard_before_the_next_frame_was_not_told_by_it():
    seldom = Answer(frames=[("start", 0.0), ("ping", 0.2), ("ping", 0.4), ("token", 0.6)])
    assert verdicts(answer=seldom, gone=0.15)["leaving"].level == "ok"


def test_a_flood_of_pings_is_judged_at_once():
    """Comparing each with each would take minutes."""
    found = verdicts(answer=answer(*[0.5] * 20_000))
    assert found["frames"].found == "held back, by at least 3999.8 s"
    assert found["pings"].found == "pass: 20000, all late"
