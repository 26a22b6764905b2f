"""Whatever a request has, no less is held as its input than a model with a published rule reads."""

import json
from math import ceil, floor
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chatnest import AnthropicProvider, Model, OpenAIProvider
from chatnest.errors import InvalidRequest
from chatnest.models import Catalogue
from chatnest.providers.openai_chat.messages import sent_messages
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.tokens import tokenizer
from chatnest.turn import Turn
from chatnest.wire.native import parse_request
from tests.dialects.support import PROFILE
from tests.support.soak import amount
from tests.test_image_size import png
from tests.test_request_parts import call, calling, image, result, tool, url, user
from tests.test_tool_bounds import SCHEMAS, TEXT, TOOLS, comment, compact, rendered

ROOMY = msgspec.structs.replace(
    PROFILE, max_tokens_per_request=10_000_000, daily_token_limit=900_000_000
)

# ---------------------------------------------------------------- what is published


def tiles(base: int, each: int, width: int, height: int) -> int:
    """Shrunk to 2,048 px, then to 768 px on the shorter side, and cut into tiles of 512 px."""
    scale = min(1.0, 2_048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    across, down = (max(1, floor(side * scale)) for side in (width, height))
    return base + each * ceil(across / 512) * ceil(down / 512)


def patches(percent: int, width: int, height: int) -> int:
    """Patches of 32 px, of which there are at most 1,536."""
    across, down = ceil(width / 32), ceil(height / 32)
    return floor(min(across * down, 1_536) * percent / 100)


def claude(width: int, height: int) -> int:
    return min(width * height // 750, 1_600)


IMAGES: dict[tuple[str, str], Any] = {
    ("gpt-4o", "low"): lambda *_: 85,
    ("gpt-4o", "high"): lambda *size: tiles(85, 170, *size),
    ("gpt-5", "high"): lambda *size: tiles(70, 140, *size),
    ("gpt-4.1-mini", "high"): lambda *size: patches(162, *size),
    ("o4-mini", "low"): lambda *size: patches(172, *size),
    ("claude-sonnet-4-5", "low"): claude,
}

CLAUDE_TOOLS = 346
"""Tokens of the system prompt that Anthropic documents for requests with tools, for Claude 4.5."""


class Reference:
    """Counts a body of Chat Completions as the models read it: the cookbook's formula for messages,
    the format of gpt-oss for tools, calls, results and schemas, and the guides' rules for images.
    """

    def __init__(self, model: str, detail: str, sizes: dict[str, tuple[int, int]]) -> None:
        encoding = tokenizer._ENCODINGS["o200k_base"].load()
        self.tokens = lambda text: len(encoding.encode_ordinary(text))
        self.is_claude = model.startswith("claude")
        self._image = IMAGES[model, detail]
        self._sizes = sizes
        self._names: dict[str, str] = {}

    def request(self, body: dict[str, Any], messages: list[dict[str, Any]]) -> int:
        total = 3 + sum(map(self._message, messages))
        if tools := body.get("tools"):
            total += self.tokens(rendered(tools)) + (CLAUDE_TOOLS if self.is_claude else 0)
        if form := body.get("responseFormat", {}).get("json_schema"):
            text = f"# Response Formats\n\n## {form['name']}\n\n"
            text += comment(form.get("description", ""), "") + compact(form["schema"])
            total += self.tokens(text)
        return total

    def _message(self, message: dict[str, Any]) -> int:
        head = 3 + 1
        for made in message.get("tool_calls", ()):
            function = made["function"]
            self._names[made["id"]] = function["name"]
            head += self.tokens(f"functions.{function['name']}<>json") + 3
            head += self.tokens(function["arguments"])
        if message["role"] == "tool":
            head += self.tokens(f"functions.{self._names[message['tool_call_id']]}") + 3
        content = message["content"]
        if isinstance(content, list):
            return head + sum(map(self._part, content))
        return head + self.tokens(content or "")

    def _part(self, part: dict[str, Any]) -> int:
        if part["type"] == "text":
            return self.tokens(part["text"])
        found: int = self._image(*self._sizes[part["image_url"]["url"]])
        return found


# ---------------------------------------------------------------- conversations

SIDES = st.integers(1, 3_000) | st.sampled_from([28, 32, 33, 512, 513, 768, 769, 2_048, 2_049])
SIZES = st.tuples(SIDES, SIDES)
WORDS = (TEXT | st.text(min_size=1)).filter(str.strip)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
QUESTIONS = st.lists(SIZES | WORDS, min_size=1, max_size=3)
CALLS = st.lists(st.tuples(NAMES, TEXT | st.just('{"city": "Oslo"}'), TEXT), max_size=3)
TURNS = st.lists(st.tuples(QUESTIONS, CALLS, st.none() | WORDS), min_size=1, max_size=3)
FORMS = st.fixed_dictionaries(
    {"name": NAMES, "schema": st.fixed_dictionaries({"type": st.just("object"), "x": SCHEMAS})},
    optional={"description": TEXT},
)


def body_of(turns: Any, tools: Any, form: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body of a request, and the size of each of its images."""
    messages: list[dict[str, Any]] = []
    sizes: dict[str, tuple[int, int]] = {}
    for number, (question, calls, answer) in enumerate(turns):
        parts: list[dict[str, Any]] = []
        for part in question:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
            else:
                parts.append(image(url(png(*part))))
                sizes[url(png(*part))] = part
        messages.append(user(*parts))
        if calls:
            made = [call(f"c{number}-{n}", each[0], each[1]) for n, each in enumerate(calls)]
            messages.append(calling(*made))
            messages += [result(f"c{number}-{n}", each[2]) for n, each in enumerate(calls)]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    body: dict[str, Any] = {"messages": messages}
    if tools:
        body["tools"] = tools
    if form:
        body["responseFormat"] = {"type": "json_schema", "json_schema": form}
    return body, sizes


LONG = "Ab9_Zq8-" * 8
SMALL = [tool("f", parameters={"type": "object", "properties": {}})]


@pytest.mark.soak
@pytest.mark.parametrize(("model", "detail"), IMAGES)
@settings(max_examples=amount(20, 3_000))
@given(TURNS, st.just([]) | TOOLS, st.none() | FORMS)
@example([(["Hi"], [], None)], SMALL, None)
@example([(["Hi"], [(LONG, "{}", "1")] * 3, None)], [], None)
@example([([(3_000, 2_000), "What?"], [], "A cat."), ([(1, 1)], [], None)], [], None)
def test_what_a_model_reads_is_held(model, detail, turns, tools, form):
    assume(len({each["function"]["name"] for each in tools}) == len(tools))
    body, sizes = body_of(turns, tools, form)
    try:
        request = parse_request(json.dumps(body).encode())
    except InvalidRequest:
        assume(False)  # hypothesis has no other name for it
        raise
    kind = AnthropicProvider if model.startswith("claude") else OpenAIProvider
    provider = kind(model=model, api_key="k", base_url="http://127.0.0.1:9/v1")
    models = {"m": Model(provider=provider, image_detail=detail)}
    counter = Catalogue.of(models, {ROOMY.name: ROOMY}).default.counter
    turn = Turn(
        turn_id="t", principal="p", request=request, profile=ROOMY, model="m", counter=counter
    )
    anyio.run(turn.fit)

    sent = sent_messages(turn.messages, ThinkingHabit(model), model=model, image_detail=detail)
    assert Reference(model, detail, sizes).request(body, sent) <= turn.input_tokens
