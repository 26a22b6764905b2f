"""What the documentation of FastAPI and of the openai package lead to."""

import json
import os

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

client = AsyncOpenAI(base_url=os.environ["BENCH_UPSTREAM"], api_key="k")
app = FastAPI()


class Message(BaseModel):
    role: str
    content: str


class Question(BaseModel):
    messages: list[Message]


@app.post("/api/chat")
async def chat(question: Question) -> StreamingResponse:
    async def frames():
        stream = await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[message.model_dump() for message in question.messages],  # type: ignore[misc]
            max_tokens=4_000,
            stream=True,
        )
        async for chunk in stream:  # type: ignore[union-attr]
            if chunk.choices and chunk.choices[0].delta.content:
                yield f"event: token\ndata: {json.dumps(chunk.choices[0].delta.content)}\n\n"
        yield "event: done\ndata: \n\n"

    return StreamingResponse(frames(), media_type="text/event-stream")
