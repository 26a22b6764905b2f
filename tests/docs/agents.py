"""The programs of docs/how-to/agents.md, and a model for its agent that needs no network."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pydantic_ai import Agent, ModelMessage
    from pydantic_ai.models import function
else:
    pytest.importorskip("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models import function

__all__ = ["LOOK", "PAGE", "Script", "agent_of", "model_of", "programs"]

PAGE = Path(__file__).parents[2] / "docs/how-to/agents.md"


def programs() -> dict[str, Any]:
    """The names of the page's programs. The first one needs a key in the environment."""
    names: dict[str, Any] = {"__name__": "helpdesk"}
    for text in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(text, str(PAGE), "exec"), names)
    return names


class Script:
    """A model that looks the weather up and then answers. ``steps`` has the pieces of each step,
    ``settings`` the settings with which each step was asked, and ``asked`` its messages.
    """

    def __init__(self, *steps: list[Any]) -> None:
        self.steps = steps or (LOOK, ["Take ", "an umbrella."])
        self.settings: list[Any] = []
        self.asked: list[list[ModelMessage]] = []

    async def __call__(
        self, messages: "list[ModelMessage]", info: "function.AgentInfo"
    ) -> AsyncIterator[Any]:
        step = self.steps[len(self.settings)]
        self.settings.append(info.model_settings)
        self.asked.append(list(messages))
        for piece in step:
            yield await piece() if callable(piece) else piece


LOOK: list[Any] = [
    {0: function.DeltaThinkingPart(content="I should look at the weather.")},
    {1: function.DeltaToolCall("weather", '{"city": ', tool_call_id="call_1")},
    {1: function.DeltaToolCall(None, '"Oslo"}')},
]
"""A step that thinks and calls a tool: 13 tokens, as FunctionModel counts."""


def agent_of(script: Script, tool: Any) -> "Agent[None, str]":
    """An agent with one tool. The function's name is the tool's."""
    return Agent(model_of(script), tools=[tool])


def model_of(script: Script) -> "function.FunctionModel":
    """The script as a model of Pydantic AI."""
    return function.FunctionModel(stream_function=script)
