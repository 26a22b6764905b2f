"""chatnest within an application of one's own, and all else as at ``chatnest serve``."""

import os
from pathlib import Path

from fastapi import FastAPI

from chatnest import ChatNestApp, ChatNestMiddleware, HardCaps, OpenAIProvider, Profile
from chatnest.ledger.sqlite import SQLiteLedger

MANY = 1_000_000_000_000

balanced = Profile(
    name="balanced",
    max_messages=20,
    temperature=0.5,
    daily_token_limit=MANY,
    max_tokens_per_request=16_000,
    max_output_tokens=4_000,
    requests_per_minute=1_000_000,
    max_concurrent_streams=100_000,
)
chat = ChatNestApp(
    provider=OpenAIProvider(base_url=os.environ["BENCH_UPSTREAM"], api_key="k"),
    ledger=SQLiteLedger(Path(os.environ["BENCH_FOLDER"]) / "books.db"),
    profiles=[balanced],
    hard_caps=HardCaps(
        daily_token_limit=MANY, requests_per_minute=1_000_000, max_concurrent_streams=100_000
    ),
)
app = FastAPI()
app.add_middleware(ChatNestMiddleware, chat=chat, path="/api/chat")
