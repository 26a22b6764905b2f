"""Bodies become a valid request, or a 400 that names the place and repeats nothing."""

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatnest.asgi.http import respond
from chatnest.conversation import Message
from chatnest.errors import InvalidRequest
from chatnest.profiles import profile_name
from chatnest.requests import ChatRequest
from chatnest.wire.native import parse_request, problem_response

CANARY = "CaNaRy"
HELLO = b'{"role":"user","content":"CaNaRy"}'
NO_CONVERSATION = (
    "conversation: must be a string of 1 to 256 printable characters, not only spaces."
)
NOT_JSON = "The body is not valid JSON."
NOT_UTF8 = "The body must be valid UTF-8."
NOT_OBJECT = "The body: must be a JSON object with a list `messages`."
TWICE = "A key stands twice in one JSON object."
UNKNOWN = (
    "there is a field that is not one of messages, profile, aiUsageProfile, model, "
    "dailyTokenLimit, maxTokensPerRequest, maxOutputTokens, systemPrompt, usageEvent, events, "
    "linger, conversation, tools, toolChoice, parallelToolCalls, responseFormat, reasoningEffort, "
    "stop, seed, temperature, topP, presencePenalty, frequencyPenalty."
)
UNKNOWN_IN_MESSAGE = (
    "there is a field that is not one of role, content, id, tool_calls, tool_call_id, is_error, "
    "reasoning."
)
NO_MESSAGES = "messages: must be a list of 1 to 1,000 messages."
NO_MESSAGE = "messages[0]: must be an object with role and content."
NO_ROLE = "messages[0].role: must be 'user', 'assistant' or 'tool'."
NO_CONTENT = "messages[0].content: must be a string that is not blank, or a list of parts."
NO_PART = (
    "messages[0].content[0]: must be an object with type 'text' and text, or 'image_url' and "
    "image_url."
)
NO_USER = "messages: at least one must be the user's."


def body(*messages: bytes, more: bytes = b"") -> bytes:
    return b'{"messages":[%b]%b}' % (b",".join(messages or (HELLO,)), more)


def content(value: bytes) -> bytes:
    return body(b'{"role":"user","content":%b}' % value)


def whole_number(name: str) -> str:
    return f"{name}: must be a whole number of at least 1."


NOT_AN_OBJECT = [b"[]", b"null", b'"CaNaRy"', b"1", b"true", b"[" * 900 + b"]" * 900]
BROKEN = {
    "empty": b"",
    "blank": b" \n\t ",
    "one brace": b"{",
    "cut in a key": b'{"CaNa',
    "cut in a string": body()[:-8],
    "cut before its end": body()[:-1],
    "trailing text": body() + b" CaNaRy",
    "a second document": body() + body(),
    "trailing comma": body(more=b","),
    "trailing comma in a list": body(HELLO, b""),
    "single quotes": b"{'messages':'CaNaRy'}",
    "a comment": b"/* CaNaRy */" + body(),
    "vertical tab before it": b"\x0b" + body(),
    "leading zero": body(more=b',"dailyTokenLimit":01'),
    "NaN": body(more=b',"dailyTokenLimit":NaN'),
    "Infinity": body(more=b',"maxTokensPerRequest":Infinity'),
    "-Infinity": body(more=b',"maxTokensPerRequest":-Infinity'),
    "unknown escape": content(rb'"CaNaRy\x41"'),
    "raw NUL in a string": content(b'"CaNaRy\x00"'),
    "raw line feed in a string": content(b'"CaNaRy\n"'),
    "NUL behind it": body() + b"\x00",
    "BOM": b"\xef\xbb\xbf" + body(),
    "UTF-16": body().decode().encode("utf-16"),
    "UTF-16 without a BOM": body().decode().encode("utf-16-le"),
    "UTF-32": body().decode().encode("utf-32"),
}
BYTES = {
    "not UTF-8": content(b'"CaNaRy\xff"'),
    "overlong": content(b'"CaNaRy\xc0\xaf"'),
    "a surrogate as bytes": content(b'"CaNaRy\xed\xa0\x80"'),
    "beyond Unicode": content(b'"CaNaRy\xf4\x90\x80\x80"'),
    "cut character": content(b'"CaNaRy\xe2\x82"'),
    "in a key": b'{"CaNaRy\xff":1}',
    "in an id": body(b'{"role":"user","content":"a","id":"CaNaRy\xff"}'),
}
DEEP = {
    f"{name}, {depth:,} deep": (make(depth), detail)
    for depth in (900, 5_000, 100_000)
    for name, make, detail in (
        ("list of messages", lambda d: b'{"messages":%b%b}' % (b"[" * d, b"]" * d), NO_MESSAGE),
        ("list for content", lambda d: content(b"[" * d + b"]" * d), NO_PART),
        ("list", lambda d: b"[" * d + b"]" * d, NOT_OBJECT),
        ("objects", lambda d: b'{"CaNaRy":' * d, UNKNOWN),
        ("unknown field", lambda d: body(more=b',"CaNaRy":%b%b' % (b"[" * d, b"]" * d)), UNKNOWN),
        (
            "object for a limit",
            lambda d: body(more=b',"dailyTokenLimit":' + b'{"CaNaRy":' * d),
            whole_number("dailyTokenLimit"),
        ),
    )
}
NO_LIMITS = {
    "5,000 digits": b"9" * 5_000,
    "5,000 digits below zero": b"-" + b"9" * 5_000,
    "negative": b"-1",
    "zero": b"0",
    "minus zero": b"-0",
    "whole float": b"1.0",
    "float": b"1.5",
    "exponent": b"1e3",
    "beyond a float": b"1e400",
    "true": b"true",
    "string": b'"5CaNaRy"',
    "digits in a string": b'"5"',
    "the word null": b'"null"',
    "empty string": b'""',
    "list": b'["CaNaRy"]',
    "object": b'{"CaNaRy":5}',
}
LIMITS = {
    f"{name}: {kind}": (body(more=b',"%b":%b' % (name.encode(), value)), whole_number(name))
    for name in ("dailyTokenLimit", "maxTokensPerRequest")
    for kind, value in NO_LIMITS.items()
}
TWO_KEYS = {
    "messages": body(more=b',"messages":[%b]' % HELLO),
    "messages, spelled with an escape": body(more=rb',"m\u0065ssages":[' + HELLO + b"]"),
    "both spelled with escapes": rb'{"\u006dessages":[' + HELLO + rb'],"mes\u0073ages":[]}',
    "a limit": body(more=b',"dailyTokenLimit":1,"dailyTokenLimit":2'),
    "a limit, spelled with an escape": body(more=rb',"dailyTokenLimit":1,"daily\u0054okenLimit":2'),
    "role": body(b'{"role":"assistant","role":"user","content":"CaNaRy"}'),
    "content": body(b'{"role":"user","content":"CaNaRy","content":"b"}'),
    "content in a later message": body(HELLO, b'{"role":"user","content":"a","content":"a"}'),
    "id, spelled with an escape": body(
        rb'{"role":"user","content":"a","id":"CaNaRy","\u0069d":"b"}'
    ),
}
SMUGGLED = {
    name: body(more=b',"%b":%b' % (name.encode(), value))
    for name, value in {
        "base_url": b'"https://CaNaRy.example"',
        "api_key": b'"CaNaRy"',
        "tool_choice": b'"auto"',
        "response_format": b'{"type":"CaNaRy"}',
        "n": b"128",
        "logit_bias": b'{"CaNaRy":100}',
        "stream_options": b'{"include_usage":false}',
        "max_tokens": b"1000000",
        "top_p": b"1",
        "Messages": b"[]",
        "daily_token_limit": b"1",
        "__proto__": b'{"CaNaRy":1}',
        "constructor": b'{"prototype":{"CaNaRy":1}}',
        CANARY * 2_000: b"1",
        r"CaNaRy\u0000": b"1",
        "": b'"CaNaRy"',
    }.items()
}
MESSAGES = {
    "no messages": (b"{}", NO_MESSAGES),
    "null": (b'{"messages":null}', NO_MESSAGES),
    "a string": (b'{"messages":"CaNaRy"}', NO_MESSAGES),
    "an object": (b'{"messages":{"CaNaRy":1}}', NO_MESSAGES),
    "an empty list": (b'{"messages":[]}', NO_MESSAGES),
    "10,000 of them": (body(*[HELLO] * 10_000), NO_MESSAGES),
    "1,001 of them": (body(*[HELLO] * 1_001), NO_MESSAGES),
    "a null message": (body(b"null"), NO_MESSAGE),
    "a string for a message": (body(b'"CaNaRy"'), NO_MESSAGE),
    "a list for a message": (body(b"[]"), NO_MESSAGE),
    "a number for the second": (
        body(HELLO, b"3"),
        "messages[1]: must be an object with role and content.",
    ),
    "no role": (body(b'{"content":"CaNaRy"}'), NO_ROLE),
    "null role": (body(b'{"role":null,"content":"CaNaRy"}'), NO_ROLE),
    "unknown role": (body(b'{"role":"CaNaRy","content":"a"}'), NO_ROLE),
    "role in capitals": (body(b'{"role":"User","content":"CaNaRy"}'), NO_ROLE),
    "system": (body(b'{"role":"system","content":"CaNaRy"}'), NO_ROLE),
    "developer": (body(b'{"role":"developer","content":"CaNaRy"}'), NO_ROLE),
    "tool": (
        body(b'{"role":"tool","content":"CaNaRy"}'),
        "messages[0].tool_call_id: must be a string of 1 to 256 printable characters.",
    ),
    "system after the user": (
        body(HELLO, b'{"role":"system","content":"CaNaRy"}'),
        "messages[1].role: must be 'user', 'assistant' or 'tool'.",
    ),
    "no content": (body(b'{"role":"user"}'), NO_CONTENT),
    "null content": (content(b"null"), NO_CONTENT),
    "number for content": (content(b"5"), NO_CONTENT),
    "object for content": (content(b'{"CaNaRy":1}'), NO_CONTENT),
    "blank parts for content": (content(b'[{"type":"text","text":" "}]'), NO_CONTENT),
    "empty content of the user's": (content(b'""'), NO_CONTENT),
    "blank content of the user's": (content(rb'" \n\t"'), NO_CONTENT),
    "null content of the assistant's": (
        body(HELLO, b'{"role":"assistant","content":null}'),
        "messages[1].content: must be a string that is not blank, or a list of parts.",
    ),
    "only the assistant's": (body(b'{"role":"assistant","content":"CaNaRy"}'), NO_USER),
    "only an empty one of the assistant's": (body(b'{"role":"assistant","content":""}'), NO_USER),
    "number for an id": (
        body(b'{"role":"user","content":"CaNaRy","id":5}'),
        "messages[0].id: must be a string.",
    ),
    "a name for a message": (
        body(b'{"role":"user","content":"a","name":"CaNaRy"}'),
        f"messages[0]: {UNKNOWN_IN_MESSAGE}",
    ),
    "an unknown key in a message": (
        body(HELLO, b'{"role":"user","content":"a","CaNaRy":1}'),
        f"messages[1]: {UNKNOWN_IN_MESSAGE}",
    ),
}
FIELDS = {
    "number for a profile": (b',"profile":5', "profile: must be the name of a profile."),
    "list for a profile": (b',"profile":["CaNaRy"]', "profile: must be the name of a profile."),
    "object for an old profile": (
        b',"aiUsageProfile":{"CaNaRy":1}',
        "aiUsageProfile: must be the name of a profile.",
    ),
    "number for a system prompt": (b',"systemPrompt":5', "systemPrompt: must be a string."),
    "list for a system prompt": (b',"systemPrompt":["CaNaRy"]', "systemPrompt: must be a string."),
    "number for usageEvent": (b',"usageEvent":1', "usageEvent: must be true or false."),
    "number for a conversation": (b',"conversation":5', NO_CONVERSATION),
    "nothing for a conversation": (b',"conversation":""', NO_CONVERSATION),
    "blanks for a conversation": (b',"conversation":"  "', NO_CONVERSATION),
    "a line break in a conversation": (rb',"conversation":"CaNaRy\n"', NO_CONVERSATION),
    "a mark of direction in a conversation": (rb',"conversation":"\u202e"', NO_CONVERSATION),
    "too long a conversation": (b',"conversation":"%b"' % (b"a" * 257), NO_CONVERSATION),
    "string for usageEvent": (b',"usageEvent":"CaNaRy"', "usageEvent: must be true or false."),
}
IN_OUR_WORDS = {
    "a key that ends like a place": (body(more=b',"x` - at `$.CaNaRy":1'), UNKNOWN),
    "a role that ends like a place": (
        body(b'{"role":"x` - at `$.CaNaRy","content":"a"}'),
        NO_ROLE,
    ),
    "a role that names a missing field": (
        body(b'{"role":"missing required field `CaNaRy`","content":"a"}'),
        NO_ROLE,
    ),
    "a role that says unknown field": (
        body(b'{"role":"unknown field `CaNaRy`","content":"a"}'),
        NO_ROLE,
    ),
}
HOSTILE = {
    **{f"not an object {i}": (b, NOT_OBJECT) for i, b in enumerate(NOT_AN_OBJECT)},
    **{f"broken: {k}": (b, NOT_JSON) for k, b in BROKEN.items()},
    **{f"bytes: {k}": (b, NOT_UTF8) for k, b in BYTES.items()},
    **{f"depth: {k}": v for k, v in DEEP.items()},
    **{f"limit: {k}": v for k, v in LIMITS.items()},
    **{f"twice: {k}": (b, TWICE) for k, b in TWO_KEYS.items()},
    **{f"smuggled: {k[:20]}": (b, UNKNOWN) for k, b in SMUGGLED.items()},
    **{f"messages: {k}": v for k, v in MESSAGES.items()},
    **{f"field: {k}": (body(more=b), d) for k, (b, d) in FIELDS.items()},
    **{f"in our words: {k}": v for k, v in IN_OUR_WORDS.items()},
}


def refusal(sent: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(sent)
    return caught.value


@pytest.mark.parametrize(("sent", "detail"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_refused_with_its_place_and_without_its_text(sent, detail):
    error = refusal(sent)

    assert error.detail == str(error) == detail
    assert (error.status, error.code, error.retryable) == (400, "invalid_request", False)
    assert CANARY not in repr(error)
    assert error.__cause__ is None or CANARY not in str(error.__cause__)


@pytest.mark.anyio
@pytest.mark.parametrize(("sent", "detail"), HOSTILE.values(), ids=HOSTILE)
async def test_the_problem_document_of_a_hostile_body_is_small_and_has_none_of_it(sent, detail):
    messages = []

    async def send(message):
        messages.append(message)

    problem = problem_response(refusal(sent), request_id="0" * 32)
    await respond({"type": "http", "method": "POST"}, send, problem)

    start, sole = messages
    assert start["status"] == 400
    assert len(sole["body"]) <= 2_048
    assert CANARY.encode() not in sole["body"]
    assert json.loads(sole["body"]) == {
        "type": "about:blank",
        "title": "Invalid request",
        "status": 400,
        "detail": detail,
        "code": "invalid_request",
        "retryable": False,
        "request_id": "0" * 32,
        "error": detail,
    }


ACCEPTED = {
    "the least": (body(HELLO), ChatRequest(messages=(Message.of("user", CANARY),))),
    "what the browser client sends": (
        (
            b'{"messages":[{"id":"m1","role":"user","content":"hi"},'
            b'{"id":"m2","role":"assistant","content":"hello"},'
            b'{"id":"m3","role":"user","content":"more"},'
            b'{"id":"m4","role":"assistant","content":""}],'
            b'"profile":"balanced","dailyTokenLimit":1000,"maxTokensPerRequest":200,'
            b'"systemPrompt":"Be brief."}'
        ),
        ChatRequest(
            messages=(
                Message.of("user", "hi"),
                Message.of("assistant", "hello"),
                Message.of("user", "more"),
            ),
            profile="balanced",
            daily_token_limit=1_000,
            max_tokens_per_request=200,
            system_prompt="Be brief.",
        ),
    ),
    "an empty answer in the middle": (
        body(HELLO, b'{"role":"assistant","content":""}', b'{"role":"user","content":"again"}'),
        ChatRequest(messages=(Message.of("user", CANARY), Message.of("user", "again"))),
    ),
    "blank messages in the history": (
        body(
            b'{"role":"user","content":""}',
            HELLO,
            rb'{"role":"assistant","content":" \n"}',
            rb'{"role":"user","content":"\t"}',
            b'{"role":"user","content":"again"}',
        ),
        ChatRequest(messages=(Message.of("user", CANARY), Message.of("user", "again"))),
    ),
    "nulls for what is not given": (
        body(
            b'{"role":"user","content":"hi","id":null}',
            more=b',"profile":null,"aiUsageProfile":null,"dailyTokenLimit":null,'
            b'"maxTokensPerRequest":null,"systemPrompt":null,"usageEvent":null,"linger":null,'
            b'"conversation":null',
        ),
        ChatRequest(messages=(Message.of("user", "hi"),)),
    ),
    "an empty system prompt": (
        body(more=b',"systemPrompt":""'),
        ChatRequest(messages=(Message.of("user", CANARY),), system_prompt=""),
    ),
    "the longest conversation": (
        body(more=b',"conversation":"%b"' % ("\xe4" * 256).encode()),
        ChatRequest(messages=(Message.of("user", CANARY),), conversation="\xe4" * 256),
    ),
    "the usage event": (
        body(more=b',"usageEvent":true'),
        ChatRequest(messages=(Message.of("user", CANARY),), usage_event=True),
    ),
    "the least limits": (
        body(more=b',"dailyTokenLimit":1,"maxTokensPerRequest":1'),
        ChatRequest(
            messages=(Message.of("user", CANARY),), daily_token_limit=1, max_tokens_per_request=1
        ),
    ),
    "a limit beyond 64 bits": (
        body(more=b',"dailyTokenLimit":100000000000000000000000'),
        ChatRequest(
            messages=(Message.of("user", CANARY),),
            daily_token_limit=100_000_000_000_000_000_000_000,
        ),
    ),
    "the old name over no name": (
        body(more=b',"profile":null,"aiUsageProfile":"free"'),
        ChatRequest(messages=(Message.of("user", CANARY),), profile="expanded"),
    ),
    "the new name over the old": (
        body(more=b',"aiUsageProfile":"free","profile":"budget"'),
        ChatRequest(messages=(Message.of("user", CANARY),), profile="constrained"),
    ),
    "a key spelled with an escape": (
        rb'{"m\u0065ssages":[' + HELLO + b"]}",
        ChatRequest(messages=(Message.of("user", CANARY),)),
    ),
    "white space around": (
        b" \r\n\t" + body() + b"\n ",
        ChatRequest(messages=(Message.of("user", CANARY),)),
    ),
}


@pytest.mark.parametrize(("sent", "request_"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_body_of_chat_nests_client_is_accepted(sent, request_):
    assert parse_request(sent) == request_


def test_a_thousand_messages_are_accepted():
    assert len(parse_request(body(*[HELLO] * 1_000)).messages) == 1_000


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("budget", "constrained"),
        ("moderate", "balanced"),
        ("free", "expanded"),
        ("Budget", "constrained"),
        ("MODERATE", "balanced"),
        (" free ", "expanded"),
        ("constrained", "constrained"),
        ("Balanced", "balanced"),
        ("EXPANDED", "expanded"),
        ("Team-A", "team-a"),
        ("constructor", "constructor"),
        ("__proto__", "__proto__"),
        ("Groß", "Groß"),
        ("\u212aelvin", "\u212aelvin"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("field", ["profile", "aiUsageProfile"])
def test_a_profile_has_its_current_name_whatever_its_spelling(field, sent, name):
    more = b"," + json.dumps({field: sent}).encode()[1:-1]

    assert parse_request(body(more=more)).profile == profile_name(sent) == name


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb'"\ud83d\ude00"', "😀"),
        ('"😀"'.encode(), "😀"),
        (rb'"\u0041\u00e9\u4e2d"', "Aé中"),
        (rb'"\u0000"', "\x00"),
        (rb'"\ufeff\u2028\u2029\u202e"', "\ufeff\u2028\u2029\u202e"),
        ('"\u0378\U000e0fff\uffff"'.encode(), "\u0378\U000e0fff\uffff"),
        ('"\x7f\x85\u2028"'.encode(), "\x7f\x85\u2028"),
        (rb'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
        (rb'"Hi \ud83d"', "Hi \ufffd"),
        (rb'"\ude00!"', "\ufffd!"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\\ud83d \uD83D."', "\\ud83d \ufffd."),
        ('"e\u0301 <|endoftext|> ${x} \'; --"'.encode(), "e\u0301 <|endoftext|> ${x} '; --"),
    ],
)
def test_any_valid_text_arrives_as_it_was_written(sent, text):
    assert parse_request(content(sent)).messages == (Message.of("user", text),)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), st.booleans()
)
def test_any_text_survives_both_ways_of_writing_json(text, ascii_only):
    sent = json.dumps(
        {"messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only
    ).encode()

    assert parse_request(sent).messages[0].text == text


words = st.sampled_from(
    [
        *"{}[],:",
        *(b'"%b"' % w for w in (b"messages", b"role", b"content", b"id", b"user", b"assistant")),
        *(b'"%b"' % w for w in (b"profile", b"dailyTokenLimit", b"systemPrompt", b"usageEvent")),
        *(b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b'"\\ud800"', b"\xff", b"\x00", b" "),
        *(b'{"messages":[', b'{"role":"user","content":', b"}]}", HELLO, body()),
    ]
).map(lambda word: word if isinstance(word, bytes) else word.encode())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "id", "profile", "dailyTokenLimit"])
            | st.text(),
            inner,
        )
    ),
)


@given(
    st.binary()
    | st.lists(words).map(b"".join)
    | values.map(lambda value: json.dumps(value).encode())
    | st.lists(values).map(lambda value: json.dumps({"messages": value}).encode())
)
@example(body())
@example(b"\xff\xfe")
def test_any_bytes_are_a_request_or_a_400(sent):
    request: ChatRequest | None = None
    with suppress(InvalidRequest):
        request = parse_request(sent)

    if request is not None:
        assert any(message.role == "user" for message in request.messages)
        assert all(message.text for message in request.messages)


@given(st.text(), st.integers(0, 20))
def test_no_key_of_a_client_is_repeated(key, noise):
    canary = f"{key}` - at `$.{CANARY}{noise}"

    for sent in (
        {"messages": [{"role": "user", "content": "a"}], canary: 1},
        {"messages": [{"role": "user", "content": "a", canary: 1}]},
        {"messages": [{"role": canary, "content": "a"}]},
    ):
        assert CANARY not in refusal(json.dumps(sent).encode()).detail
