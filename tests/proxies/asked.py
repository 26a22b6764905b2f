"""A mounted chat for the tests of smuggling, and a model that repeats the last question."""

import json
import os
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from chatnest import ChatNestApp, HardCaps, OpenAIProvider, Profile, TrustedHeader
from chatnest.profiles import BALANCED

ROOMY = {"requests_per_minute": 100_000, "daily_token_limit": 10**9, "max_concurrent_streams": 1000}


class Echo:
    """The model. It remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        word = json.loads(body)["messages"][-1]["content"]
        self.asked.append(word)
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        lines = [b"data: " + json.dumps(head | chunk).encode() + b"\n\n" for chunk in chunks]
        data = b"".join([*lines, b"data: [DONE]\n\n"])
        fields = [(b"content-type", b"text/event-stream"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": data})


def _chat() -> ChatNestApp:
    fields = {name: getattr(BALANCED, name) for name in BALANCED.__struct_fields__}
    return ChatNestApp(
        provider=OpenAIProvider(base_url=os.environ["MODEL"], api_key="k"),
        profiles=[Profile(**{**fields, **ROOMY})],
        hard_caps=HardCaps(requests_per_minute=None, daily_token_limit=None),
        identify=TrustedHeader("x-user"),
    )


if "MODEL" in os.environ:
    app = Starlette(routes=[Mount("/api", _chat())])
