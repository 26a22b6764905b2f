"""Python clients, with the commands and results of the JavaScript ones."""

import asyncio
import json
import os
import threading
import uuid
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

os.environ |= {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false"}

import openai
from agents import (
    Agent,
    FunctionTool,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
)
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

__all__ = ["PYTHON_CLIENTS", "ask"]

Command = dict[str, Any]
Result = dict[str, Any]

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgG"
    "AWjR9awAAAABJRU5ErkJggg=="
)
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def weather_of(given: dict[str, Any]) -> str:
    return f"It is sunny in {given['city']}."


_LOCK = threading.Lock()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop in a thread, for all commands: LangChain keeps its connections in one loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def ask(name: str, command: Command) -> Result:
    """Run a command with a client."""
    with _LOCK:
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(_ask(name, command), loop).result(120)


async def _ask(name: str, command: Command) -> Result:
    result: Result = {
        "text": "",
        "reasoning": "",
        "calls": [],
        "sources": [],
        "error": None,
        "status": None,
        "finish": None,
    }
    try:
        await PYTHON_CLIENTS[name](command, result)
    except Exception as exc:  # noqa: BLE001  # what the user of the client gets
        result["error"] = getattr(exc, "message", None) or str(exc) or type(exc).__name__
        result["status"] = getattr(exc, "status_code", None)
        result["code"] = getattr(exc, "code", None)
    return result


def _headers(command: Command) -> dict[str, str]:
    headers = dict(command.get("headers") or {})
    if command.get("idempotency"):
        headers["Idempotency-Key"] = uuid.uuid4().hex
    return headers


def _client(command: Command) -> Any:
    return openai.AsyncOpenAI(
        base_url=f"{command['base']}/v1",
        api_key=command.get("key") or "none",
        default_headers=_headers(command),
        max_retries=command.get("retries", openai.DEFAULT_MAX_RETRIES),
    )


# ---------------------------------------------------------------- openai


async def openai_chat(command: Command, result: Result) -> None:  # noqa: C901  # as a user would
    content: Any = command["text"]
    if command["act"] == "image":
        content = [
            {"type": "text", "text": content},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ]
    messages: list[Any] = [{"role": "user", "content": content}]
    tools: Any = [{"type": "function", "function": WEATHER}]
    more = {"tools": tools} if command["act"] == "tools" else {}
    async with _client(command) as client:
        if command["act"] == "whole":
            answer = await client.chat.completions.create(model=command["model"], messages=messages)
            result["text"] = answer.choices[0].message.content
            result["finish"] = answer.choices[0].finish_reason
            return
        for _ in range(5):
            calls: dict[int, Any] = {}
            text = ""
            stream = await client.chat.completions.create(
                model=command["model"], messages=messages, stream=True, **more
            )
            async with stream:
                async for chunk in stream:
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    text += choice.delta.content or ""
                    result["text"] += choice.delta.content or ""
                    result["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
                    for each in getattr(choice.delta, "annotations", None) or ():
                        result["sources"].append(each["url_citation"]["url"])
                    for call in choice.delta.tool_calls or ():
                        known = calls.setdefault(
                            call.index,
                            {
                                "id": call.id,
                                "type": "function",
                                "function": {"name": call.function.name, "arguments": ""},
                            },
                        )
                        known["function"]["arguments"] += call.function.arguments or ""
                    result["finish"] = choice.finish_reason or result["finish"]
                    if command["act"] == "stop" and text:
                        return
            if not calls:
                return
            messages.append({"role": "assistant", "content": text or None} | _calls(calls))
            for call in calls.values():
                given = json.loads(call["function"]["arguments"])
                result["calls"].append([call["function"]["name"], given])
                messages.append(
                    {"role": "tool", "tool_call_id": call["id"], "content": weather_of(given)}
                )


def _calls(calls: dict[int, Any]) -> dict[str, Any]:
    return {"tool_calls": list(calls.values())}


async def openai_responses(  # noqa: C901, PLR0912  # as a user would
    command: Command, result: Result
) -> None:
    content = [{"type": "input_text", "text": command["text"]}]
    if command["act"] == "image":
        content.append({"type": "input_image", "image_url": PIXEL, "detail": "auto"})
    items: list[Any] = [{"role": "user", "content": content}]
    more: dict[str, Any] = {"include": ["reasoning.encrypted_content"], "store": False}
    if command["act"] == "tools":
        more["tools"] = [{"type": "function", "strict": True, **WEATHER}]
    async with _client(command) as client:
        if command["act"] == "whole":
            answer = await client.responses.create(model=command["model"], input=items, **more)
            result |= {"text": answer.output_text, "finish": answer.status}
            return
        for _ in range(5):
            output: list[Any] = []
            stream = await client.responses.create(
                model=command["model"], input=items, stream=True, **more
            )
            async with stream:
                async for event in stream:
                    match event.type:
                        case "response.output_text.delta":
                            result["text"] += event.delta
                            if command["act"] == "stop":
                                return
                        case "response.reasoning_summary_text.delta":
                            result["reasoning"] += event.delta
                        case "response.output_text.annotation.added":
                            result["sources"].append(event.annotation.url)
                        case "response.completed" | "response.incomplete":
                            output = event.response.output
                            details = event.response.incomplete_details
                            result["finish"] = details.reason if details else event.response.status
                        case "response.failed":
                            result["error"] = event.response.error.message
                        case "error":
                            result["error"] = event.message
                        case _:
                            pass
            items += [each.to_dict() for each in output]
            calls = [each for each in output if each.type == "function_call"]
            if not calls:
                return
            for call in calls:
                given = json.loads(call.arguments)
                result["calls"].append([call.name, given])
                items.append(
                    {
                        "type": "function_call_output",
                        "call_id": call.call_id,
                        "output": weather_of(given),
                    }
                )


# ---------------------------------------------------------------- the Agents SDK


async def _agents(model: Any, command: Command, result: Result) -> None:
    async def invoke(_: Any, arguments: str) -> str:
        given = json.loads(arguments)
        result["calls"].append(["get_weather", given])
        return weather_of(given)

    weather = FunctionTool(
        name="get_weather",
        description="The weather of a city.",
        params_json_schema=WEATHER["parameters"],
        on_invoke_tool=invoke,
    )
    content: list[Any] = [{"type": "input_text", "text": command["text"]}]
    if command["act"] == "image":
        content.append({"type": "input_image", "image_url": PIXEL, "detail": "auto"})
    question: Any = [{"role": "user", "content": content}]
    async with _client(command) as client:
        agent = Agent(
            name="assistant",
            model=model(model=command["model"], openai_client=client),
            tools=[weather] if command["act"] == "tools" else [],
        )
        run = Runner.run_streamed(
            agent,
            question,
            run_config=RunConfig(tracing_disabled=True),
        )
        events: Any = run.stream_events()
        async for event in events:
            if event.type == "raw_response_event":
                kind = getattr(event.data, "type", "")
                if kind == "response.output_text.delta":
                    result["text"] += event.data.delta
                    if command["act"] == "stop":
                        run.cancel()
                if kind == "response.reasoning_summary_text.delta":
                    result["reasoning"] += event.data.delta
        result["finish"] = "completed"


async def agents_chat(command: Command, result: Result) -> None:
    await _agents(OpenAIChatCompletionsModel, command, result)


async def agents_responses(command: Command, result: Result) -> None:
    await _agents(OpenAIResponsesModel, command, result)


# ---------------------------------------------------------------- LangChain


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather_of({"city": city})


async def _langchain(command: Command, result: Result, **options: Any) -> None:
    make: Any = ChatOpenAI
    model = make(
        base_url=f"{command['base']}/v1",
        api_key=command.get("key") or "none",
        model=command["model"],
        default_headers=_headers(command),
        max_retries=command.get("retries", openai.DEFAULT_MAX_RETRIES),
        **options,
    )
    if command["act"] == "tools":
        model = model.bind_tools([get_weather])
    content: Any = command["text"]
    if command["act"] == "image":
        content = [
            {"type": "text", "text": content},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ]
    messages: list[BaseMessage] = [HumanMessage(content=content)]
    for _ in range(5):
        whole: AIMessageChunk | None = None
        stream = model.astream(messages)
        async for chunk in stream:
            whole = chunk if whole is None else whole + chunk
            result["text"] += chunk.text
            if command["act"] == "stop" and result["text"]:
                await stream.aclose()
                return
        assert whole is not None
        result["finish"] = whole.response_metadata.get(
            "finish_reason"
        ) or whole.response_metadata.get("status")
        messages.append(whole)
        if not whole.tool_calls:
            return
        for call in whole.tool_calls:
            result["calls"].append([call["name"], call["args"]])
            messages.append(ToolMessage(weather_of(call["args"]), tool_call_id=call["id"]))


async def langchain_chat(command: Command, result: Result) -> None:
    await _langchain(command, result)


async def langchain_responses(command: Command, result: Result) -> None:
    await _langchain(
        command,
        result,
        use_responses_api=True,
        store=False,
        include=["reasoning.encrypted_content"],
    )


PYTHON_CLIENTS: dict[str, Callable[[Command, Result], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        *(openai_chat, openai_responses, agents_chat, agents_responses),
        *(langchain_chat, langchain_responses),
    )
}
"""The clients by name."""
