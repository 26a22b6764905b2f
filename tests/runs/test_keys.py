"""A key stands for one request, over versions of chatnest as well."""

from chatnest import ChatRequest, Message, Text
from chatnest.requests import Tool
from chatnest.runs.key import fingerprint


def test_a_fingerprint_is_the_one_that_earlier_versions_have_stored():
    messages = (Message.of("user", 'hi \U0001f600"x'), Message.of("assistant", "yo"))
    request = ChatRequest(
        messages=messages, profile="expanded", daily_token_limit=5, system_prompt="s", linger=3.0
    )

    assert fingerprint(request) == (
        "e330a0567c67879dc88b1b6e281bced141dc61c5ffdade37823e450b0724f935"
    )


def test_what_differs_has_another_fingerprint():
    last = Message.of("user", "c")
    requests = [
        ChatRequest(messages=(Message.of("user", "ab"), last)),
        ChatRequest(messages=(Message("user", (Text("a"), Text("b"))), last)),
        ChatRequest(messages=(Message.of("assistant", "ab"), last)),
        ChatRequest(messages=(Message.of("user", "ab"), last), profile="expanded"),
        ChatRequest(messages=(Message.of("user", "ab"), last), tools=(Tool(name="look_up"),)),
    ]

    assert len({fingerprint(request) for request in requests}) == len(requests)
    assert fingerprint(ChatRequest(messages=requests[0].messages, linger=1.0)) == fingerprint(
        requests[0]
    )
