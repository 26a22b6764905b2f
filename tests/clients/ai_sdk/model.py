"""The model behind these clients: the last word of the last question decides its answer."""

from collections import Counter
from typing import Any

from chatnest.testing.upstream import (
    Answer,
    FakeUpstream,
    SeenRequest,
    Source,
    Text,
    Thinking,
    ToolCall,
)

CALLS = 3
"""Calls of the tool, one after the other, after the words "chain" and "same". The calls of "same"
have one id: some servers count from 0 in each answer.
"""

_PLACE = ToolCall("call_1", "weather", ['{"ci', 'ty": "Pa\\nris"}'])
_ANSWERS = {
    "text": Answer(pieces=("Good", "\n\ndata: [DONE]\n\n", " bread")),
    "think": Answer(parts=[Thinking("Bread is good."), Text("It is good.")]),
    "source": Answer(parts=[Text("See there."), Source("https://e.org/a", "A page")]),
    "refuse": Answer(pieces=("I will not.",), refusal=True),
    "length": Answer(finish_reason="length"),
    "cut": Answer.cut(2),
    "error": Answer.error_event(2),
    "fail": Answer.error(500),
    "slow": Answer(pieces=tuple(f"w{n} " for n in range(40)), pace=0.02),
    "silent": Answer(pieces=("a", "b"), pace=1.0),
    "parallel": Answer(
        parts=[_PLACE, ToolCall("call_2", "weather", '{"city":"Rome"}')],
    ),
    "unreadable": Answer(parts=[ToolCall("call_1", "weather", '{"city": Paris}')]),
    "poison": Answer(parts=[ToolCall("call_1", "weather", '{"__proto__": {"a": 1}}')]),
    "incomplete": Answer(
        parts=[ToolCall("call_1", "weather", '{"city": "Pa')], finish_reason="length"
    ),
}


class Model:
    """Answers the requests of a fake upstream, and counts them by their word."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.asked: Counter[str] = Counter()
        upstream.default = self._answer

    def _answer(self, seen: SeenRequest) -> Answer:
        messages: list[dict[str, Any]] = seen.json["messages"]
        question = max(n for n, each in enumerate(messages) if each["role"] == "user")
        word = _text(messages[question]).split()[-1]
        self.asked[word] += 1
        results = [each for each in messages[question:] if each["role"] == "tool"]
        if word in {"tool", "chain", "same"}:
            wanted = 1 if word == "tool" else CALLS
            if len(results) < wanted:
                number = sum(each["role"] == "tool" for each in messages) if word != "same" else 0
                return Answer(parts=[ToolCall(f"call_{number}", "weather", _PLACE.arguments)])
            return Answer(pieces=("Clear", " sky."))
        if word == "trip":
            return _ANSWERS["slow"] if results else Answer(parts=[_PLACE])
        if results:
            return Answer(pieces=("Clear", " sky."))
        if word == "once":
            return Answer.cut(2) if self.asked[word] == 1 else Answer()
        return _ANSWERS[word]


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
