"""What the documentation of FastAPI and of the openai package lead to."""

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from benchmarks.peers.model import Question, answer

app = FastAPI()


@app.post("/api/chat")
async def chat(question: Question) -> StreamingResponse:
    async def frames() -> AsyncIterator[str]:
        async for text in answer(question):
            yield f"event: token\ndata: {json.dumps(text)}\n\n"
        yield "event: done\ndata: \n\n"

    return StreamingResponse(frames(), media_type="text/event-stream")
