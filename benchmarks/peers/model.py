"""What the peers in Python share: the question, and the model by the openai package's typed stream.

The client has no limit on connections, which would be 1,000: others have none either.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient
from pydantic import BaseModel

_HTTP: dict[str, Any] = {"httpx2": DefaultAsyncHttpxClient, "aiohttp": DefaultAioHttpClient}

client = AsyncOpenAI(
    base_url=os.environ["BENCH_UPSTREAM"],
    api_key="k",
    http_client=_HTTP[os.environ["BENCH_HTTP"]](
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    ),
)


class Message(BaseModel):
    role: str
    content: str


class Question(BaseModel):
    messages: list[Message]


async def answer(question: Question) -> AsyncIterator[str]:
    stream = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[message.model_dump() for message in question.messages],  # type: ignore[misc]
        max_tokens=4_000,
        stream=True,
    )
    async for chunk in stream:  # type: ignore[union-attr]
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
