"""The application of these tests' workers: roomy, but for one budget; its ledger has much time."""

import os
from importlib import import_module
from typing import Any

from chatnest import (
    Bounds,
    ChatNestApp,
    HardCaps,
    OpenAIProvider,
    Profile,
)
from chatnest.asgi.http import header
from chatnest.ledger.base import Ledger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import FailPoints

INPUT, OUTPUT = 8, 100
HOLD = INPUT + OUTPUT
LEASE = 2.0
"""Seconds, where a test waits for its end: a worker that stands still for longer loses holds."""
PATIENCE = 10.0
"""Seconds for the disk and the server, which answer in milliseconds where nothing else runs."""


def open_ledger(where: str) -> Ledger:
    if where.startswith("redis:"):
        url, _, prefix = where.partition("#")
        return RedisLedger(url, prefix=prefix or "chatnest", timeout=PATIENCE)
    return SQLiteLedger(where.removeprefix("sqlite:"), busy_timeout=PATIENCE)


def create_app() -> ChatNestApp:
    """What a worker serves, by FIRE_* in its environment."""
    if seconds := os.environ.get("FIRE_LEASE"):
        accounts: Any = import_module("chatnest.accounting.accounts")
        generation: Any = import_module("chatnest.streams.generation")
        assert accounts.LEASE
        assert generation.RENEW_SECONDS
        accounts.LEASE = int(float(seconds) * 1000)
        generation.RENEW_SECONDS = float(seconds) / 3
    ledger = open_ledger(os.environ["FIRE_LEDGER"])
    if folder := os.environ.get("FIRE_POINTS"):
        ledger = FailPoints(ledger, folder=folder)
    profile = Profile(
        name="fire",
        max_output_tokens=OUTPUT,
        min_output_tokens=OUTPUT,
        max_messages=4,
        temperature=0.5,
        daily_token_limit=int(os.environ.get("FIRE_BUDGET", "10000000")),
        max_tokens_per_request=10_000,
        requests_per_minute=1_000_000,
        max_concurrent_streams=10_000,
    )
    return ChatNestApp(
        provider=OpenAIProvider(base_url=os.environ["FIRE_UPSTREAM"], api_key="k"),
        profiles=[profile],
        default_profile="fire",
        hard_caps=HardCaps(requests_per_minute=None, daily_token_limit=None),
        ledger=ledger,
        bounds=Bounds(
            ledger_seconds=2 * PATIENCE,
            lag_seconds=2 * PATIENCE,
            early_start_seconds=0.2,
            look_ups_per_minute=1_000_000,  # a test that waits asks for its limits all the time
        ),
        identify=lambda scope: header(scope, b"x-user") or None,
    )
