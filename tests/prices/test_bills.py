"""Bills by ``genai-prices`` and by ours, for random turns over all models that it has prices of."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING

import pytest

from chatnest.events import Usage
from chatnest.prices import Prices

pytest.importorskip("genai_prices", reason="the extra prices is not installed")

from genai_prices import Usage as LibraryUsage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from chatnest.cli.price_library import NoPrice, found_of

OWNERS = ("openai", "anthropic", "google")
TURNS = 10_000
SPEECH = "it is priced by the hour or the character of speech, and chatnest has none"
VECTORS = "it gives vectors, which have no tokens of output"
EMPTY = "an empty price calculates to 0 there, and is no price here"

# Each row of models that differs: what the library has, and why chatnest has no price.
DIFFERENT = {
    **{
        ("google", name): ("{}", "empty price", EMPTY)
        for name in ("gemma-3", "gemma-3n", "gemma-4-26b-a4b-it", "gemma-4-31b-it")
    },
    ("openai", "moderation"): ("{}", "empty price", EMPTY),
    **dict.fromkeys(
        (
            ("google", "gemini-embedding-001"),
            ("google", "gemini-embedding-2"),
            ("openai", "text-embedding-3-large"),
            ("openai", "text-embedding-3-small"),
            ("openai", "text-embedding-ada-002"),
        ),
        ("input_mtok", "no price for tokens of output", VECTORS),
    ),
    **{
        ("openai", name): (unit, "no price for tokens of input", SPEECH)
        for name, unit in {
            "gpt-live-1": "audio_hours",
            "gpt-live-transcribe": "audio_hours",
            "gpt-realtime-translate": "audio_hours",
            "gpt-realtime-whisper": "audio_hours",
            "gpt-transcribe": "audio_hours",
            "tts-1": "input_mchars",
            "tts-1-hd": "input_mchars",
            "whisper-1": "audio_hours",
        }.items()
    },
}

ROWS = [
    (owner, info)
    for owner in get_snapshot().providers
    if owner.id in OWNERS
    for info in owner.models
]


def converted() -> list[tuple[Provider, ModelInfo, Prices]]:
    found = []
    for owner, info in ROWS:
        if (owner.id, info.id) not in DIFFERENT:
            found.append((owner, info, Prices.of(found_of(owner, info, info.id).tables)))
    return found


def test_the_models_that_differ_are_at_most_twenty_and_each_has_its_reason():
    found = {}
    for owner, info in ROWS:
        try:
            found_of(owner, info, info.id)
        except NoPrice as exc:
            price = info.get_prices(datetime(2026, 11, 1, tzinfo=UTC))
            units = [key for key, value in vars(price).items() if value is not None]
            found[owner.id, info.id] = (units, str(exc))

    assert found.keys() == DIFFERENT.keys()
    assert len(found) <= 20
    for row, (units, said) in found.items():
        theirs, ours, _ = DIFFERENT[row]
        assert theirs == "{}" if not units else theirs in units
        assert ours in said


def context_of(info: ModelInfo, tier: str) -> dict[str, str]:
    """The facts by which the library knows a service tier."""
    for variant in info.price_variants or ():
        if tier in variant.when.values():
            return variant.when
    return {"service_tier": tier} if tier else {}


def turn(rng: random.Random) -> dict[str, int]:
    """Tokens of a turn by the library's names, near a threshold now and then."""
    taken = rng.choice([0, 1, rng.randrange(2_000), rng.randrange(1_100_000)])
    if rng.random() < 0.2:
        taken = rng.choice([32_000, 128_000, 200_000, 256_000, 272_000]) + rng.choice([-1, 0, 1])
    written = rng.randrange(taken + 1) if rng.random() < 0.4 else 0
    cached = rng.randrange(taken - written + 1) if rng.random() < 0.6 else 0
    given = rng.choice([0, 1, rng.randrange(500), rng.randrange(128_000)])
    return {
        "input_tokens": taken,
        "output_tokens": given,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": rng.randrange(written + 1) if rng.random() < 0.5 else 0,
        "cache_read_tokens": cached,
    }


def test_ten_thousand_random_turns_cost_the_same_to_a_nano_dollar():
    rng = random.Random(20261130)
    rows, wrong, seen = converted(), [], Counter[str]()
    assert len(rows) == len(ROWS) - len(DIFFERENT) > 190
    for number in range(TURNS):
        owner, info, prices = rows[number % len(rows)]
        begin = rng.choice([datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 8, 1, tzinfo=UTC)])
        when = begin + timedelta(minutes=rng.randrange(300_000))
        price = prices.at(int(when.timestamp() * 1_000))
        tier = rng.choice(["", *price.tiers])
        tokens = turn(rng)
        theirs = info.calc_price(
            LibraryUsage(**tokens),
            owner,
            genai_request_timestamp=when,
            price_context=context_of(info, tier),
        ).total_price
        usage = Usage(
            *(tokens["input_tokens"], tokens["output_tokens"], "provider"),
            *(tokens["cache_read_tokens"], tokens["cache_write_tokens"]),
            reasoning_tokens=rng.randrange(tokens["output_tokens"] + 1),
            cache_written_1h_tokens=tokens["cache_write_1h_tokens"],
            service_tier=tier,
        )
        wanted = int((theirs * 10**9).to_integral_value(ROUND_CEILING))
        charge = price.charge(usage)
        assert charge <= price.bound(usage.input_tokens).cost(usage.output_tokens)
        if charge != wanted:
            wrong.append((owner.id, info.id, when.isoformat(), tier, tokens, wanted, charge))
        seen[tier] += 1
        seen["dated"] += len(prices.entries) > 1

    assert wrong == []
    assert min(seen[name] for name in ("", "flex", "priority", "fast", "dated")) > 100
