"""DemoProvider: canned answers at a model's pace, to look at a page without a key."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from chatnest.conversation import ToolResult
from chatnest.events import Delta, Finish, ProviderEvent, ToolCall, ToolCallDelta, Usage
from chatnest.providers.base import ProviderStream
from chatnest.providers.demo_calls import canned_call
from chatnest.tokens.tokenizer import Tokenizer
from chatnest.turn import ModelCall

__all__ = ["DemoProvider"]

_WELCOME: Final = """\
This is a **canned answer**: `chatnest serve --demo` runs without a key and without a network, \
and no model has read your message. Everything around it is real.

The parts:

1. **The stream.** Each piece of this text is an event of its own, sent the moment it exists.
2. **Stop.** Press *Stop* or `Esc`: the server sees you leave, ends the call to the model and \
charges only what was delivered.
3. **The budget.** Before the first word, the worst case of this answer was held against today's \
tokens. When it ends, the hold becomes what it really cost: look at the meter.
4. **The limits.** Ask quickly and often, and you will meet the request rate; the refusal says \
when to come back, and who waits that long gets in.

To put a real model behind it:

```sh
export OPENAI_API_KEY=...
chatnest serve
```

Ask me for a *table* or for some *code* to see how they look.
"""

_TABLE: Final = """\
Another **canned answer**, since you asked for a table. These are the profiles that \
chatnest ships, in tokens and messages:

| profile | answer | history | tokens a day | requests a minute |
|---|---:|---:|---:|---:|
| constrained | 150 | 4 | 30,000 | 15 |
| balanced | 400 | 6 | 70,000 | 30 |
| expanded | 3,000 | 12 | 200,000 | 60 |

All of it is configuration; `chatnest serve --config chatnest.toml` reads yours.
"""

_CODE: Final = """\
Another **canned answer**, since you asked for code. This is all it takes to have this chat in an \
application of your own:

```python
from fastapi import FastAPI
from chatnest import ChatNestApp

api = FastAPI()
api.add_route("/api/chat", ChatNestApp(), methods=["POST"])
```

The key comes from `OPENAI_API_KEY`, the limits from the profile *balanced*.
"""

_RESULT: Final = """\
A **canned answer** once more. Your program has run the tool, and its result was:

> {result}
"""

_SHOWN: Final = 200
"""Characters of a result that the answer repeats."""


class DemoProvider:
    """Answers without a model, with ``pace`` seconds between two pieces, for demos and for tests of
    a page. The answer says that it is canned. Budgets and limits count as with a real model. A
    question with a word of a tool's name or description gets a call of that tool.
    """

    def __init__(self, *, pace: float = 0.03) -> None:
        self.model = "demo"
        self.counter: Tokenizer = Tokenizer.for_model("gpt-4o-mini")
        self._pace = pace

    def __repr__(self) -> str:
        return f"DemoProvider(pace={self._pace})"

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[ProviderStream]:
        """See Provider.open."""
        call.sent = True
        answer = self._answer(call)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""

    async def _answer(self, call: ModelCall) -> AsyncGenerator[Sequence[ProviderEvent], None]:
        counts = await self.counter.count_messages(call.request.messages)
        input_tokens = sum(counts) + self.counter.reply_tokens
        if call.request.tools and (made := canned_call(call.request)) is not None:
            cost = await self.counter.count(made.name + made.arguments)
            if cost <= call.request.max_output_tokens:
                id_ = f"call_{len(call.request.messages)}"  # new in the conversation
                yield [ToolCall(0, id_, made.name), ToolCallDelta(0, made.arguments)]
                yield [Finish("tool_calls"), Usage(input_tokens, cost)]
                return
        output_tokens, reason = 0, "stop"
        for piece in re.findall(r"\s*\S+", _text_for(call)):
            tokens = await self.counter.count(piece)
            if output_tokens + tokens > call.request.max_output_tokens:
                reason = "length"
                break
            await anyio.sleep(self._pace)
            output_tokens += tokens
            yield [Delta(piece)]
        yield [Finish(reason), Usage(input_tokens, output_tokens)]


def _text_for(call: ModelCall) -> str:
    last = call.request.messages[-1]
    if results := [part.text for part in last.parts if isinstance(part, ToolResult)]:
        return _RESULT.format(result=" ".join(results[-1].split())[:_SHOWN])
    question = last.text.lower()
    if "table" in question:
        return _TABLE
    if "code" in question or "python" in question:
        return _CODE
    return _WELCOME
