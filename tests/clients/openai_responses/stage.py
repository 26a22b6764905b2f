"""A chat over a fake model, for the scripts beside it: ``python -m ...stage --port 9100``.

The first word of the user's last message is the name of a scenario, which decides the answer. The
API key is the principal: ``busy``, ``hourly`` and ``poor`` are refused. ``GET /asked`` returns how
often the model was asked for each message of a user, and what it got last.
"""

import argparse
import json
from collections import Counter
from typing import Any

import uvicorn

from chatnest import Bounds, ChatNestApp, Model, NativeFormat, OpenAIProvider
from chatnest.ledger.base import Limit
from chatnest.policies import standard_policies
from chatnest.profiles import Profile
from chatnest.providers.anthropic_messages import AnthropicProvider
from chatnest.providers.openai_responses import OpenAIResponsesProvider
from chatnest.testing import (
    Answer,
    FakeUpstream,
    Refusal,
    Source,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
)
from chatnest.testing.upstream.record import SeenRequest
from chatnest.wire import OpenAIResponsesFormat

USAGE = TokenUsage(120, 40, cached=64, reasoning=25)
THINKING = Thinking("Is it raining?", signature="c2VhbGVk")
CALL = ToolCall("call_1", "weather", ['{"city":', ' "Oslo"}'])
OTHER = ToolCall("call_2", "weather", ['{"city": "Rome"}'])

ANSWERS = {
    "text": Answer.text("Good morning to you", usage=USAGE),
    "again": Answer.text("And again", usage=USAGE),
    "think": Answer(parts=[THINKING, Text("It is not.")], usage=USAGE),
    "tools": Answer(parts=[THINKING, Text("I look."), CALL, OTHER], usage=USAGE),
    "tools, answered": Answer.text("It rains in Oslo", usage=USAGE),
    "source": Answer(parts=[Text("See there"), Source("https://example.org/", "Example")]),
    "image": Answer.text("A red pixel"),
    "json": Answer(parts=[Text('{"a": 1}')]),
    "stop": Answer.endless(pace=0.05),
    "slow": Answer.text("Late but whole", first_delay=2.5),
    "refusal": Answer(parts=[Refusal("I will not say that")]),
    "length": Answer.text("This is cut", finish_reason="length"),
    "spent": Answer(parts=[THINKING], finish_reason="length"),
    "halfcall": Answer(parts=[ToolCall("call_1", "weather", ['{"ci'])], finish_reason="length"),
    "nocall": Answer(parts=[ToolCall("call_1", "weather", [])], finish_reason="length"),
    "filter": Answer.text("This is", finish_reason="content_filter"),
    "refused": Answer.error(500),
    "inband": Answer.cut(after=0, first_delay=1.0),
    "busymodel": Answer.error(503, first_delay=1.0),
    "broken": Answer.cut(after=2),
}
"""The answers by scenario."""


def answer_to(request: SeenRequest) -> Answer:
    scenario, has_result = look_at(request.json)
    name = scenario.split()[0] if scenario else "text"
    if has_result and f"{name}, answered" in ANSWERS:
        name = f"{name}, answered"
    return ANSWERS.get(name, ANSWERS["text"])


def look_at(body: dict[str, Any]) -> tuple[str, bool]:
    """The user's last text, and whether the result of a tool follows it."""
    items = body.get("input") or body.get("messages") or ()
    text, has_result = "", False
    for item in items:
        content = item.get("content")
        if item.get("role") == "user":
            parts = [{"text": content}] if isinstance(content, str) else content
            said = [part["text"] for part in parts if "text" in part]
            text, has_result = (said[-1], False) if said else (text, True)
        elif item.get("role") == "tool" or item.get("type") == "function_call_output":
            has_result = True
    return text, has_result


def shape_of(body: dict[str, Any]) -> list[str]:
    """The kinds of content that the model got, with the proofs of its thinking."""
    shape = []
    for item in body.get("input") or body.get("messages") or ():
        proof = item.get("encrypted_content") or item.get("reasoning_content")
        content = item.get("content")
        blocks = content if isinstance(content, list) else []
        kinds = [f"{b.get('type')}({b.get('signature') or ''})" for b in blocks]
        kind = item.get("type") or item.get("role")
        shape.append(f"{kind}({proof or ', '.join(kinds)})")
    return shape


class Refusing:
    """Limits of the principals ``busy`` and ``poor``."""

    def limits(self, turn: Any) -> list[Limit]:
        match turn.principal:
            case "busy":
                return [Limit(name="busy", kind="rate", account="busy", limit=1, window=3)]
            case "hourly":
                return [Limit(name="hourly", kind="rate", account="hourly", limit=1, window=3600)]
            case "poor":
                return [Limit(name="poor", kind="budget", account="poor", limit=10)]
        return []


def identify(scope: Any) -> str:
    head = dict(scope["headers"])
    return head.get(b"authorization", b"Bearer rich").decode().removeprefix("Bearer ") or "rich"


def chat_over(upstream: FakeUpstream) -> ChatNestApp:
    profile = Profile(
        name="any",
        max_output_tokens=4_000,
        max_messages=20,
        temperature=0.7,
        daily_token_limit=500_000,
        max_tokens_per_request=32_000,
        requests_per_minute=60,
        images=True,
        tools=True,
        structured_output=True,
        sampling=True,
        max_reasoning_effort="high",
    )
    rich = [Refusing(), *standard_policies()[2:]]
    return ChatNestApp(
        models={
            "chat": Model(
                provider=OpenAIResponsesProvider(
                    base_url=upstream.base_url, api_key="none", model="gpt-5.4"
                ),
                aliases=("gpt-5.6-luna", "gpt-4o-mini"),
            ),
            "chat-completions": Model(
                provider=OpenAIProvider(
                    base_url=upstream.base_url, api_key="none", model="deepseek-chat"
                )
            ),
            "claude": Model(
                provider=AnthropicProvider(
                    base_url=upstream.origin, api_key="none", model="claude-sonnet-4-5"
                )
            ),
        },
        profiles=[profile],
        default_profile="any",
        policies=rich,
        identify=identify,
        client_system_prompt="allow",
        formats=[NativeFormat(), OpenAIResponsesFormat()],
        bounds=Bounds(early_start_seconds=0.3),
        ping_interval=0.4,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9100)
    port = parser.parse_args().port
    with FakeUpstream() as upstream:
        upstream.default = answer_to
        chat = chat_over(upstream)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] != "/asked":
                await chat(scope, receive, send)
                return
            asked = Counter(look_at(request.json)[0] for request in upstream.requests)
            aborted = Counter(
                look_at(request.json)[0]
                for request in upstream.requests
                if request.state == "aborted"
            )
            sent = {
                look_at(request.json)[0]: shape_of(request.json) for request in upstream.requests
            }
            body = json.dumps({"asked": asked, "aborted": aborted, "sent": sent}).encode()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
