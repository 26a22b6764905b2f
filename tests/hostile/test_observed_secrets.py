"""What clients and models say is in no log line, metric, span and attribute, in any format."""

import itertools
import json
from typing import Any

import pytest
from prometheus_client import generate_latest

from chatnest import BearerKeys
from chatnest.telemetry import AccessLog
from chatnest.testing import CANARY, Answer, Conversation
from chatnest.wire.named import FORMAT_NAMES, formats_of
from tests.hostile.canaries import ANN, BEARER, PROMPT, SAID, SYSTEM
from tests.hostile.logs import everything_logged
from tests.streams.support import KEY, answer_to, profile, serving
from tests.test_opentelemetry import Recorded

pytestmark = pytest.mark.anyio

ADDRESS = "203.0.113.9"
SECRETS = (PROMPT, SYSTEM, SAID, BEARER, ADDRESS, KEY, CANARY)

OPENAI = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
PARTS = [{"type": "text", "text": PROMPT}]
NEW = "number-of-the-request"
"""Stands for an id that each request has anew: it would join the run of another one."""
BODIES: dict[str, dict[str, Any]] = {
    "native": {"messages": [{"role": "user", "content": PROMPT}], "systemPrompt": SYSTEM},
    "ai-sdk": {"id": PROMPT, "messages": [{"id": NEW, "role": "user", "parts": PARTS}]},
    "openai-chat": {"model": "gpt-4o-mini", "messages": OPENAI, "stream": True},
    "openai-responses": {"model": "gpt-4o-mini", "input": OPENAI, "stream": True, "user": SAID},
    "ag-ui": {
        "threadId": PROMPT,
        "runId": f"{SAID}-{NEW}",
        "state": {"x": SYSTEM},
        "forwardedProps": {},
        "messages": [{"id": "1", "role": "user", "content": PROMPT}],
        "tools": [],
        "context": [],
    },
}
ENDS = ("done", "done", "upstream_account", "upstream_interrupted", "client_gone")
REFUSALS = ("invalid_request", "invalid_request", "rate_limited")


async def talk(app: Any, upstream: Any, path: str, body: dict[str, Any]) -> None:
    """Turns of all ends: plain, keyed, failed, cut, left. Then refusals: of a body, by a limit."""
    options: dict[str, Any] = {
        "path": path,
        "client": (ADDRESS, 50_000),
        "headers": {"authorization": f"Bearer {BEARER}", "x-forwarded-for": ADDRESS},
    }
    keyed = {**options["headers"], "idempotency-key": f'"{PROMPT}"'}
    numbers = itertools.count()

    def fresh() -> dict[str, Any]:
        new: dict[str, Any] = json.loads(json.dumps(body).replace(NEW, str(next(numbers))))
        return new

    await answer_to(app, fresh(), **options)
    await answer_to(app, fresh(), **options | {"headers": keyed})
    for failure in (Answer.error(401, code=CANARY, kind=KEY), Answer.cut(1, pieces=(SAID, SAID))):
        upstream.script(failure)
        await answer_to(app, fresh(), **options)
    upstream.script(Answer.stall(1, pieces=(SAID, SAID)))
    async with Conversation(app, json=fresh(), **options) as c:
        await c.until(lambda: SAID.encode() in c.received)
        c.disconnect()
        await c.finished()
    await answer_to(app, {SYSTEM: PROMPT, "messages": SAID}, **options)
    await answer_to(app, fresh() | {"messages": 3, "input": 3}, **options)
    await answer_to(app, fresh(), **options)


@pytest.mark.parametrize("identified", [True, False], ids=["key", "address"])
@pytest.mark.parametrize("name", FORMAT_NAMES)
async def test_no_observer_tells_what_was_said(upstream, name, identified):
    (form,) = formats_of([name])
    upstream.default = Answer(pieces=(SAID, SAID))
    recorded = Recorded()
    kinds: dict[str, Any] = {"identify": BearerKeys(ANN)} if identified else {}
    with everything_logged() as lines:
        async with serving(
            upstream,
            formats=[form],
            profiles=[profile(requests_per_minute=5)],
            default_profile="own",
            system_prompt=SYSTEM,
            allow_client_system_prompt=True,
            observers=[AccessLog("json"), AccessLog("text"), recorded.observer],
            **kinds,
        ) as app:
            metrics = app.metrics
            await talk(app, upstream, f"/api/chat{form.path}", BODIES[name])
            shown = generate_latest(metrics).decode()

    told = "".join(span.to_json() for span in recorded.spans) + str(recorded.metrics())
    turns = recorded.named("chatnest.turn")
    assert [span.attributes["chatnest.outcome"] for span in turns] == [*ENDS, *REFUSALS]
    assert [logger for logger, _ in lines].count("chatnest.access") == 2 * len(turns)
    assert "chatnest_turns_total" in shown
    for where, text in (("spans", told), ("metrics", shown), *lines):
        assert [secret for secret in SECRETS if secret in text] == [], (where, text)
