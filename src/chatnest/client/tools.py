"""Tools: functions of yours that the model calls, and the rounds until it has its answer."""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, get_type_hints

import msgspec
from anyio import to_thread

from chatnest.client.answer import Answer
from chatnest.client.errors import ChatError
from chatnest.conversation import ToolCall
from chatnest.events import Piece

__all__ = ["Tool", "ToolRun", "tool_rounds"]


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call, sync or async. ``parameters`` is the JSON schema of its
    keyword arguments. A sync function runs in a thread.

    ``Tool.of`` makes one of a function's name, docstring and annotations.
    """

    function: Callable[..., Any]
    name: str
    description: str = ""
    parameters: Mapping[str, Any] = {}
    arguments: type[msgspec.Struct] | None = None
    """The type that the arguments are checked against, if it is known."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Tool":
        """The tool of a function. Raises TypeError for an annotation that has no JSON schema."""
        name = function.__name__
        hints = get_type_hints(function)
        fields: list[Any] = []
        for each in inspect.signature(function).parameters.values():
            kind = hints.get(each.name, Any)
            fields.append(
                (each.name, kind) if each.default is each.empty else (each.name, kind, each.default)
            )
        arguments = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        _, parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
        parameters = dict(parts.pop(name))
        del parameters["title"]
        if parts:
            parameters["$defs"] = parts
        return cls(
            function=function,
            name=name,
            description=inspect.getdoc(function) or "",
            parameters=parameters,
            arguments=arguments,
        )

    def definition(self) -> dict[str, Any]:
        """The tool in the form of a request."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}

    async def call(self, arguments: str) -> str:
        """The result for these arguments, which are JSON. A result that is not a str becomes JSON.

        Raises ValueError for arguments that are invalid, and all errors of the function.
        """
        named: dict[str, Any]
        if self.arguments is None:
            named = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        else:
            checked = msgspec.json.decode(arguments or "{}", type=self.arguments)
            named = {name: getattr(checked, name) for name in checked.__struct_fields__}
        if inspect.iscoroutinefunction(self.function):
            result = await self.function(**named)
        else:
            result = await to_thread.run_sync(partial(self.function, **named))
        return result if isinstance(result, str) else msgspec.json.encode(result).decode()


class ToolRun(msgspec.Struct, frozen=True, kw_only=True):
    """The end of ``run_tools``: the text of the last answer, the whole conversation with it, and
    the usage of each answer.
    """

    text: str
    messages: tuple[dict[str, Any], ...]
    usage: tuple[dict[str, Any], ...]


Ask = Callable[..., AbstractAsyncContextManager[Answer]]


async def tool_rounds(
    ask: Ask,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    rounds: int,
    on_event: Callable[[Piece], object] | None,
) -> ToolRun:
    """Ask, make the calls of the answer, and ask again with their results, at most ``rounds``
    times. Calls of an answer that ended with ``stop`` were made at the server, by an agent.

    Raises ChatError, with the code ``too_many_rounds`` if the last answer has calls.
    """
    own = [tool if isinstance(tool, Tool) else Tool.of(tool) for tool in tools]
    by_name = {tool.name: tool for tool in own}
    definitions = [tool.definition() for tool in own]
    conversation = [dict(message) for message in messages]
    usage: list[dict[str, Any]] = []
    for left in range(rounds - 1, -1, -1):
        async with ask(conversation, tools=definitions) as answer:
            await _read(answer.events(), on_event)
        usage.append(answer.usage or {})
        message = answer.message
        conversation.append(message)
        if not answer.tool_calls or usage[-1].get("finish_reason") == "stop":
            return ToolRun(
                text=message["content"] or "", messages=tuple(conversation), usage=tuple(usage)
            )
        if usage[-1].get("incomplete"):
            raise ChatError(
                0, {"code": "incomplete_call", "detail": "The answer broke off within a call."}
            )
        if left:
            conversation += [await _result(by_name.get(c.name), c) for c in answer.tool_calls]
    raise ChatError(
        0,
        {"code": "too_many_rounds", "detail": f"The model still calls tools in round {rounds}."},
    )


async def _read(events: AsyncIterator[Piece], on_event: Callable[[Piece], object] | None) -> None:
    async for event in events:
        if on_event is not None:
            on_event(event)


async def _result(tool: Tool | None, call: ToolCall) -> dict[str, Any]:
    """The message with the result of a call. An error goes to the model, which may try again."""
    message: dict[str, Any] = {"role": "tool", "tool_call_id": call.id}
    if tool is None:
        return {**message, "content": "There is no tool of this name.", "is_error": True}
    try:
        return {**message, "content": await tool.call(call.arguments)}
    except Exception as exc:  # noqa: BLE001  # a function of the user's may raise anything
        return {**message, "content": f"{type(exc).__name__}: {exc}", "is_error": True}
