"""The `openai` package: ``python openai_python.py BASE_URL [MODEL]``. A line of JSON for each
scenario, with what its user sees.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import openai

BASE, MODEL = sys.argv[1], (*sys.argv[2:], "chat")[0]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGA"
    "hKmMIQAAAABJRU5ErkJggg=="
)
TOOLS: Any = [
    {
        "type": "function",
        "name": "weather",
        "strict": False,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


def client(key: str = "rich", **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=BASE, api_key=key, **options)


def ask(scenario: str, way: str) -> list[Any]:
    return [{"role": "user", "content": f"{scenario} python {way}"}]


def seen(response: Any) -> dict[str, Any]:
    return {
        "status": response.status,
        "reason": getattr(response.incomplete_details, "reason", None),
        "text": response.output_text,
        "items": [item.type for item in response.output],
        "usage": getattr(response.usage, "total_tokens", None),
    }


def create(given: list[Any], key: str = "rich", **options: Any) -> dict[str, Any]:
    return seen(client(key).responses.create(model=MODEL, input=given, **options))


def stream(given: list[Any], key: str = "rich", **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"text": "", "refusal": "", "thinking": "", "numbers": []}
    opened: Any = client(key).responses.create(model=MODEL, input=given, stream=True, **options)
    for event in opened:
        found["numbers"].append(event.sequence_number)
        match event.type:
            case "response.output_text.delta":
                found["text"] += event.delta
            case "response.refusal.delta":
                found["refusal"] += event.delta
            case "response.reasoning_summary_text.delta":
                found["thinking"] += event.delta
            case "response.completed" | "response.incomplete" | "response.failed":
                found["last"] = seen(event.response)
    numbers = found.pop("numbers")
    return found | {"events": len(numbers), "in order": numbers == list(range(len(numbers)))}


def helper(given: list[Any], key: str = "rich", **options: Any) -> dict[str, Any]:
    with client(key).responses.stream(model=MODEL, input=given, **options) as opened:
        text = "".join(e.delta for e in opened if e.type == "response.output_text.delta")
        return {"streamed": text, **seen(opened.get_final_response())}


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "create": create,
    "stream": stream,
    "helper": helper,
}


def tried(scenario: str, way: str, act: Callable[[], dict[str, Any]]) -> None:
    line: dict[str, Any] = {"client": "openai-python", "scenario": scenario, "way": way}
    try:
        line |= act()
    except openai.OpenAIError as exc:
        line["error"] = {
            "class": type(exc).__name__,
            **{n: getattr(exc, n, None) for n in ("status_code", "code", "type", "param")},
            "message": str(exc),
            "request": getattr(exc, "request_id", None),
        }
    except Exception as exc:  # noqa: BLE001  # the helpers raise anything
        line["error"] = {"class": type(exc).__name__, "message": str(exc)}
    print(json.dumps(line), flush=True)


def tools_over_two_turns(way: str) -> dict[str, Any]:
    given = ask("tools", way)
    if way == "helper":
        with client().responses.stream(model=MODEL, input=given, tools=TOOLS) as opened:
            first: Any = opened.get_final_response()
    else:
        first = client().responses.create(
            model=MODEL,
            input=given,
            tools=TOOLS,
            store=False,
            include=["reasoning.encrypted_content"],
        )
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "rain"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = WAYS[way]([*given, *first.output, *results], tools=TOOLS)
    return {"first": [item.type for item in first.output], "calls": len(results), **second}


def limited(key: str, way: str) -> dict[str, Any]:
    WAYS[way](ask("text", f"{way} {key} first"), key)
    return WAYS[way](ask("text", f"{way} {key} second"), key)


def stopped() -> dict[str, Any]:
    pieces = 0
    opened: Any = client().responses.create(model=MODEL, input=ask("stop", "close"), stream=True)
    with opened:
        for event in opened:
            pieces += event.type == "response.output_text.delta"
            if pieces == 3:
                break
    return {"pieces": pieces}


def cancelled() -> dict[str, Any]:
    key = {"idempotency-key": f'"python-{time.time_ns()}"'}
    own = client(default_headers=key)
    opened: Any = own.responses.create(model=MODEL, input=ask("stop", "cancel"), stream=True)
    found: dict[str, Any] = {}
    try:
        for event in opened:
            if event.type == "response.created":
                found["id"] = event.response.id
            elif event.type == "response.output_text.delta" and "receipt" not in found:
                receipt = own.responses.cancel(found["id"])
                found |= {"receipt": receipt.status, "same": receipt.id == found["id"]}
    except openai.APIError as exc:
        found["code"] = exc.code
    return found


REFUSED: dict[str, dict[str, Any]] = {
    "item_reference": {"input": [{"type": "item_reference", "id": "msg_1"}]},
    "previous_response_id": {"previous_response_id": "resp_1"},
    "conversation": {"conversation": "conv_1"},
    "background": {"background": True},
    "web search": {"tools": [{"type": "web_search"}]},
    "truncation": {"truncation": "auto"},
    "model": {"model": "nobody"},
}

for way, act in WAYS.items():
    for scenario in (
        *("text", "think", "source", "slow", "refusal", "length", "spent", "filter"),
        *("refused", "inband", "broken"),
    ):
        tried(scenario, way, lambda: act(ask(scenario, way)))  # noqa: B023
    for scenario in ("halfcall", "nocall"):
        tried(scenario, way, lambda: act(ask(scenario, way), tools=TOOLS))  # noqa: B023
    image = [
        {"type": "input_text", "text": f"image python {way}"},
        {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
    ]
    tried("image", way, lambda: act([{"role": "user", "content": image}]))  # noqa: B023
    tried("tools", way, lambda: tools_over_two_turns(way))  # noqa: B023
    for key in ("busy", "hourly", "poor"):
        tried(f"limit {key}", way, lambda: limited(key, way))  # noqa: B023
tried("stop", "close", stopped)
tried("cancel", "post", cancelled)
for name, options in REFUSED.items():
    arguments: dict[str, Any] = {"model": MODEL, "input": ask("text", name), **options}
    tried(
        f"refused {name}",
        "create",
        lambda: seen(client().responses.create(**arguments)),  # noqa: B023
    )
