"""The application of these tests' workers: roomy, but for budgets of tokens and of money. It gives
its ledger much time.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from chatnest import (
    Bounds,
    ChatNestApp,
    HardCaps,
    Identity,
    OpenAIProvider,
    Profile,
    standard_policies,
)
from chatnest.asgi.http import header
from chatnest.config.prices import prices_of
from chatnest.config.sections import load_config
from chatnest.ledger.base import Ledger, Limit
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import FailPoints

INPUT, OUTPUT = 8, 100
HOLD = INPUT + OUTPUT
HOLD_MONEY = 9_877 + OUTPUT * 9_877
"""Nano-dollars: 8 x 1,234.567 and each token of output at 9,876.543, each rounded up."""
LEASE = 2.0
"""Seconds, where a test waits for its end: a worker that stands still for longer loses holds."""
PATIENCE = 10.0
"""Seconds for the disk and the server, which answer in milliseconds where nothing else runs."""

CONFIG = """
[provider]
price = {{input = "1.234567", cached_input = "0.100001", output = "9.876543"}}

[[limits]]
name = "own"
per = "principal"
unit = "money"
amount = "{0}"
window = "day"

[[limits]]
name = "team"
per = "team"
unit = "money"
amount = "{0}"
window = "month"
starts = 31

[[limits]]
name = "house"
per = "global"
unit = "money"
amount = "{0}"
window = "month"
"""
"""With the amount of money that everybody has."""


def cost(input_tokens: int, output_tokens: int) -> int:
    """The nano-dollars of a turn, by the prices above."""
    return -(-(input_tokens * 1_234_567 + output_tokens * 9_876_543) // 1_000)


def money_limits(user: str) -> tuple[Limit, Limit, Limit]:
    """The limits of money that a request of this user has."""
    name, _, team = user.partition("@")
    return (
        Limit(name="own", unit="money", account=name, amount=0, window="day"),
        Limit(
            name="team",
            unit="money",
            account=f"group:team:{team or 'crew'}",
            amount=0,
            window="month",
            starts=31,
        ),
        Limit(name="house", unit="money", account="everybody", amount=0, window="month"),
    )


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
    config = load_config(Path(os.environ["FIRE_CONFIG"]), {}, {})
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
        prices=prices_of("provider", config.provider),
        policies=standard_policies(limits=config.limits),
        ledger=ledger,
        bounds=Bounds(
            ledger_seconds=2 * PATIENCE,
            lag_seconds=2 * PATIENCE,
            early_start_seconds=0.2,
            look_ups_per_minute=1_000_000,  # a test that waits asks for its limits all the time
        ),
        identify=lambda scope: _identity(header(scope, b"x-user")),
    )


def _identity(user: str) -> Identity | None:
    """``ann``, or ``ann@acme`` of the team acme."""
    name, _, team = user.partition("@")
    return Identity(name, groups={"team": team or "crew"}) if name else None
