"""LangChain: ``python langchain_python.py BASE_URL [MODEL]``. A line of JSON for each scenario."""

import json
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.messages import (  # type: ignore[import-not-found,unused-ignore]
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found,unused-ignore]

BASE, MODEL = sys.argv[1], (*sys.argv[2:], "chat")[0]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGA"
    "hKmMIQAAAABJRU5ErkJggg=="
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def asked(way: str, given: Any, key: str = "rich", tools: Any = None) -> AIMessage:
    model: Any = ChatOpenAI(model=MODEL, base_url=BASE, api_key=key, use_responses_api=True)
    if tools is not None:
        model = model.bind_tools(tools)
    if way == "invoke":
        return model.invoke(given)
    chunks = list(model.stream(given))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def seen(message: Any) -> dict[str, Any]:
    kinds = [block.get("type") for block in message.content if isinstance(block, dict)]
    return {
        "text": message.text if isinstance(message.text, str) else message.text(),
        "blocks": kinds,
        "calls": [call["args"] for call in message.tool_calls],
        "invalid": len(message.invalid_tool_calls),
        "status": message.response_metadata.get("status"),
        "usage": (message.usage_metadata or {}).get("total_tokens"),
        "refusal": message.additional_kwargs.get("refusal"),
    }


def tried(scenario: str, way: str, act: Callable[[], Any]) -> None:
    line: dict[str, Any] = {"client": "langchain", "scenario": scenario, "way": way}
    try:
        line |= seen(act())
    except Exception as exc:  # noqa: BLE001  # it raises anything
        code = getattr(exc, "code", None)
        line["error"] = {"class": type(exc).__name__, "code": code, "message": str(exc)}
    print(json.dumps(line), flush=True)


def tools_over_two_turns(way: str, said: str) -> Any:
    given: list[Any] = [SystemMessage("Be brief"), HumanMessage(said)]
    first = asked(way, given, tools=TOOLS)
    results = [ToolMessage("rain", tool_call_id=call["id"]) for call in first.tool_calls]
    return asked(way, [*given, first, *results], tools=TOOLS)


def two_turns(way: str, said: str, again: str) -> Any:
    first = asked(way, said)
    return asked(way, [HumanMessage(said), first, HumanMessage(again)])


def limited(key: str, way: str) -> Any:
    asked(way, f"text langchain {way} {key} first", key)
    return asked(way, f"text langchain {way} {key} second", key)


for way in ("invoke", "stream"):
    for scenario in (
        *("text", "think", "source", "slow", "refusal", "length", "spent", "filter", "refused"),
        *("inband", "broken"),
    ):
        tried(scenario, way, lambda: asked(way, f"{scenario} langchain {way}"))  # noqa: B023
    for scenario in ("halfcall", "nocall"):
        tried(
            scenario,
            way,
            lambda: asked(way, f"{scenario} langchain {way}", tools=TOOLS),  # noqa: B023
        )
    tried("tools", way, lambda: tools_over_two_turns(way, f"tools langchain {way}"))  # noqa: B023
    tried(
        "two turns",
        way,
        lambda: two_turns(way, f"think langchain {way}", f"again langchain {way}"),  # noqa: B023
    )
    image = [
        {"type": "text", "text": f"image langchain {way}"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    tried("image", way, lambda: asked(way, [HumanMessage(image)]))  # noqa: B023
    for key in ("busy", "hourly", "poor"):
        tried(f"limit {key}", way, lambda: limited(key, way))  # noqa: B023
