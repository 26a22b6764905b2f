"""What the model is sent: the very request that the SDK would make, without its work each time."""

import json
from typing import Any

import openai
import pytest

from chatnest import ConfigurationError, ModelParameters, OpenAIProvider
from chatnest.providers.openai_chat.parameters import ADVICE
from chatnest.providers.refusals.error_documents import Refusal, read_refusal
from chatnest.providers.refusals.faults import error_for
from chatnest.testing import Answer
from tests.streams.support import DONE, KEY, Books, answer_to, ask, serving

OF_THE_TRANSPORT = {"accept", "accept-encoding", "connection", "content-length", "host"}
ACCOUNT: dict[str, Any] = {"organization": "org-1", "project": "proj-1"}


@pytest.mark.anyio
async def test_its_head_is_the_sdk_s(upstream):
    provider = OpenAIProvider(api_key=KEY, base_url=upstream.base_url, **ACCOUNT)
    async with serving(upstream, provider=provider) as app:
        for _ in range(2):
            await answer_to(app, ask())
    async with openai.AsyncOpenAI(api_key=KEY, base_url=upstream.base_url, **ACCOUNT) as client:
        stream = await client.chat.completions.create(
            **{field: value for field, value in upstream.last.json.items() if field != "stream"},
            stream=True,
        )
        await stream.close()

    ours, again, theirs = (
        {name: value for name, value in seen.headers.items() if name not in OF_THE_TRANSPORT}
        for seen in upstream.requests
    )
    assert ours == again == theirs
    assert {seen.path for seen in upstream.requests} == {"/v1/chat/completions"}
    assert upstream.requests[0].json == upstream.requests[2].json
    assert ours["openai-organization"] == "org-1"
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("setting", ["api_key", "organization", "project"])
@pytest.mark.parametrize("text", ["sk-\u20ac", "sk-1\n", "sk-1\0"])
def test_what_no_header_can_hold_is_said_at_once(setting, text):
    account: dict[str, Any] = {"api_key": KEY, setting: text}
    with pytest.raises(ConfigurationError, match=setting) as raised:
        OpenAIProvider(**account)
    assert "sk-" not in str(raised.value)


@pytest.mark.parametrize("variable", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
def test_the_same_of_what_the_sdk_reads_by_itself(variable, monkeypatch):
    """As of a file, with its line's end: it would end the head, and the rest would be another."""
    monkeypatch.setenv(variable, "org-1\n")
    with pytest.raises(ConfigurationError):
        OpenAIProvider(api_key=KEY)


@pytest.mark.parametrize(
    "rest",
    ["", "/v1", "x:y@", ":80", "h:0/v1", "h:65536", "[::1/v1", "h:x", "h/v1\n", "h/v1\r\nX: y"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_address_that_leads_nowhere_is_said_at_once(scheme, rest):
    with pytest.raises(ConfigurationError, match="base_url") as raised:
        OpenAIProvider(api_key=KEY, base_url=f"{scheme}://{rest}")
    assert "x:y" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["ftp://x:secret@h", "x:secret@h", "HTTP://x:secret@h"])
def test_the_password_of_an_address_is_not_in_what_is_said_of_it(scheme):
    with pytest.raises(ConfigurationError, match="http://") as raised:
        OpenAIProvider(api_key=KEY, base_url=scheme)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "rest",
    ["h", "h:1", "[::1]:65535/v1/", "u:p@h:8/v1", "b\u00fccher.example", "h/v1?a=b", "h:/v1"],
)
def test_an_address_that_leads_somewhere(rest):
    OpenAIProvider(api_key=KEY, base_url=f"http://{rest}")


@pytest.mark.parametrize(
    ("document", "status", "names"),
    [
        (b'{"error": {"code": "c", "type": "t"}}', 0, {"c", "t"}),
        (b'{"code": 429, "type": null}', 429, set()),
        (b'{"error": {"code": {"a": 1}, "type": []}}', 0, set()),
        (b'{"error": "no"}', 0, set()),
        (b'["error"]', 0, set()),
        (b"<html>", 0, set()),
        (b"[" * 100_000, 0, set()),
        (b'{"error": {"code": "\xff"}}', 0, set()),
        (b"", 0, set()),
        (b'{"error":' * 100 + b'{"code": "c"}' + b"}" * 100, 0, set()),
        (b'{"errors": [' + b'{"message": "x"},' * 1_000 + b'{"code": "c"}]}', 0, set()),
    ],
)
def test_names_in_an_error_document(document, status, names):
    refusal = read_refusal(document)

    assert (refusal.status, refusal.names) == (status, names)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "1e9"}, 60),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 60),
        (
            {
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
                "retry-after": "Wed, 21 Oct 2015 07:28:40 GMT",
            },
            40,
        ),
        ({"retry-after": "26s"}, 26),
        ({"retry-after": "soon"}, 5),
        ({"retry-after": "nan"}, 5),
        ({"retry-after": "-1"}, 5),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "9", "retry-after-ms": "soon"}, 9),
        ({"x-ratelimit-reset": "26"}, 26),
        ({"x-ratelimit-reset": "never"}, None),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "1m"}, 60),
        ({"x-ratelimit-reset-requests": "8.64s", "x-ratelimit-reset-tokens": "500ms"}, 8.64),
        (
            {
                "x-ratelimit-reset-requests": "8.64s",
                "x-ratelimit-remaining-requests": "9999",
                "x-ratelimit-reset-tokens": "500ms",
                "x-ratelimit-remaining-tokens": "0",
            },
            0.5,
        ),
        ({"x-ratelimit-reset": "1000000000"}, 0),
        ({"x-ratelimit-reset": "99999999999999"}, 60),
        ({"anthropic-ratelimit-tokens-reset": "2099-10-21T07:28:00Z"}, 60),
        ({"ratelimit-reset": "7"}, 7),
        ({"x-ratelimit-limit": "7"}, None),
    ],
)
def test_when_it_says_to_come_back(fields, seconds):
    assert error_for(Refusal(), status=429, headers=fields).retry_after == seconds


@pytest.mark.parametrize("key", ['"sk-x"', "'sk-x'", "Bearer sk-x", " sk-x", "sk-x ", '"sk-x'])
def test_a_key_with_what_surrounds_it_is_refused(key):
    with pytest.raises(ConfigurationError, match="api_key: expected a key, got one") as refused:
        OpenAIProvider(api_key=key)
    assert "sk-x" not in str(refused.value)


def unsupported(field: str) -> Answer:
    message = f"Unsupported parameter: '{field}' is not supported with this model."
    error = {"message": message, "param": field, "code": "unsupported_parameter"}
    return Answer(status=400, body=json.dumps({"error": error}).encode())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("field", "gone", "instead"),
    [
        ("max_tokens", {"max_tokens", "temperature"}, {"max_completion_tokens"}),
        ("temperature", {"temperature"}, set()),
        ("stream_options", {"stream_options"}, set()),
        ("reasoning_effort", {"reasoning_effort"}, set()),
    ],
)
async def test_a_field_that_is_refused_is_left_out_at_once_and_from_then_on(
    upstream, caplog, field, gone, instead
):
    provider = OpenAIProvider(
        api_key=KEY,
        base_url=upstream.base_url,
        parameters=ModelParameters(reasoning_effort="low"),
    )
    books = Books()
    upstream.script(unsupported(field))
    async with serving(upstream, provider=provider, ledger=books) as app:
        for _ in range(2):
            assert (await answer_to(app, ask())).received.endswith(DONE)

    first, second, third = (seen.json.keys() for seen in upstream.requests)
    assert first - second == gone
    assert second - first == instead
    assert second == third
    asked = upstream.requests[1].json
    limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
    assert limit == upstream.requests[0].json["max_tokens"]
    assert len(books.charges) == 2
    said = [r.getMessage() for r in caplog.records if r.name == "chatnest.providers.openai"]
    (line,) = said
    assert f"rejects {field}, so requests omit it" in line
    assert ADVICE[field] in line


@pytest.mark.anyio
async def test_three_fields_are_left_out_of_a_request_at_most(upstream):
    fields = ["temperature", "stream_options", "max_tokens", "max_completion_tokens"]
    upstream.script(*map(unsupported, fields))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
        assert c.problem()["code"] == "upstream_rejected"
        assert books.charge.tokens == 0
        await answer_to(app, ask())
    assert len(upstream.requests) == 5
    assert "temperature" in upstream.requests[4].json  # nothing has succeeded without it


@pytest.mark.anyio
async def test_a_field_of_the_developers_own_is_never_left_out(upstream):
    options = {"temperature": 0.1, "seed": 1}
    provider = OpenAIProvider(api_key=KEY, base_url=upstream.base_url, options=options)
    upstream.script(unsupported("temperature"), unsupported("seed"))
    async with serving(upstream, provider=provider) as app:
        for _ in range(2):
            assert (await answer_to(app, ask())).problem()["code"] == "upstream_rejected"
    assert len(upstream.requests) == 2


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_a_client_of_ones_own_learns_the_same(anyio_backend, upstream):
    upstream.script(unsupported("max_tokens"))
    async with (
        openai.AsyncOpenAI(api_key=KEY, base_url=upstream.base_url) as client,
        serving(upstream, provider=OpenAIProvider(client=client)) as app,
    ):
        assert (await answer_to(app, ask())).received.endswith(DONE)
    assert "max_completion_tokens" in upstream.requests[1].json
