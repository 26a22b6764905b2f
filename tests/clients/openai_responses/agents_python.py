"""The Agents SDK: ``python agents_python.py BASE_URL [MODEL]``. One line of JSON per scenario."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from agents import (  # type: ignore[import-not-found,unused-ignore]
    Agent,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

BASE, MODEL = sys.argv[1], (*sys.argv[2:], "chat")[0]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGA"
    "hKmMIQAAAABJRU5ErkJggg=="
)
executed: list[str] = []


def weather(city: str) -> str:
    """The weather of a city."""
    executed.append(city)
    return "rain"


async def asked(given: Any, *, streams: bool, key: str = "rich", tools: Any = ()) -> dict[str, Any]:
    model = OpenAIResponsesModel(MODEL, AsyncOpenAI(base_url=BASE, api_key=key))
    agent = Agent(name="Helper", instructions="Be brief", model=model, tools=list(tools))
    found: dict[str, Any] = {}
    if streams:
        result = Runner.run_streamed(agent, given, max_turns=4)
        found["streamed"] = ""
        async for event in result.stream_events():
            data: Any = getattr(event, "data", None)
            if getattr(data, "type", "") == "response.output_text.delta":
                found["streamed"] += data.delta
    else:
        result = await Runner.run(agent, given, max_turns=4)
    usage = result.context_wrapper.usage.total_tokens
    items = [item.type for item in result.new_items]
    history = result.to_input_list()
    return found | {
        "text": result.final_output,
        "items": items,
        "usage": usage,
        "history": history,
    }


async def tried(scenario: str, way: str, act: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    line: dict[str, Any] = {"client": "agents-python", "scenario": scenario, "way": way}
    try:
        line |= await act()
        line.pop("history", None)
    except Exception as exc:  # noqa: BLE001  # they raise anything
        line["error"] = {"class": type(exc).__name__, "message": str(exc)}
    if executed:
        line["executed"] = list(executed)
        executed.clear()
    print(json.dumps(line), flush=True)


async def main() -> None:
    set_tracing_disabled(True)
    tools = [function_tool(weather)]
    for way in ("run", "stream"):
        streams = way == "stream"

        def said(scenario: str) -> str:
            return f"{scenario} agents-python {way}"  # noqa: B023

        for scenario in (
            *("text", "think", "slow", "refusal", "length", "filter", "refused", "inband"),
            "broken",
        ):
            await tried(scenario, way, lambda: asked(said(scenario), streams=streams))  # noqa: B023
        for scenario in ("tools", "halfcall"):
            await tried(
                scenario,
                way,
                lambda: asked(said(scenario), streams=streams, tools=tools),  # noqa: B023
            )

        async def two_turns() -> dict[str, Any]:
            first = await asked(said("think"), streams=streams)  # noqa: B023
            more = [*first["history"], {"role": "user", "content": said("again")}]
            return await asked(more, streams=streams)  # noqa: B023

        async def limited(key: str) -> dict[str, Any]:
            await asked(said(f"text {key} first"), streams=streams, key=key)  # noqa: B023
            return await asked(said(f"text {key} second"), streams=streams, key=key)  # noqa: B023

        await tried("two turns", way, two_turns)
        image = [
            {"type": "input_text", "text": said("image")},
            {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
        ]
        message = [{"role": "user", "content": image}]
        await tried("image", way, lambda: asked(message, streams=streams))  # noqa: B023
        for key in ("busy", "hourly", "poor"):
            await tried(f"limit {key}", way, lambda: limited(key))  # noqa: B023


asyncio.run(main())
