"""What the documentation of FastAPI, sse-starlette and the openai package lead to."""

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from sse_starlette import EventSourceResponse, ServerSentEvent

from benchmarks.peers.model import Question, answer

app = FastAPI()


@app.post("/api/chat")
async def chat(question: Question) -> EventSourceResponse:
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for text in answer(question):
            yield ServerSentEvent(json.dumps(text), event="token", sep="\n")
        yield ServerSentEvent("", event="done", sep="\n")

    return EventSourceResponse(events())
