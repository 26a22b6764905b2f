"""What a response says about itself reaches its usage, in each API, over real sockets."""

from typing import Any

import pytest

from chatnest.events import Usage
from chatnest.prices import Prices
from chatnest.providers import AnthropicProvider, OpenAIProvider, OpenAIResponsesProvider
from chatnest.testing import Answer, FakeUpstream, TokenUsage
from chatnest.testing.answer_contract import answer_of, question

pytestmark = pytest.mark.anyio

FIGURES = TokenUsage(
    *(1_000, 40), cached=600, cache_written=300, cache_written_1h=100, reasoning=25
)
PROVIDERS: dict[str, Any] = {
    "openai-chat": lambda url: OpenAIProvider(model="m", base_url=f"{url}/v1", api_key="k"),
    "openai-responses": lambda url: OpenAIResponsesProvider(
        model="m", base_url=f"{url}/v1", api_key="k"
    ),
    "anthropic-messages": lambda url: AnthropicProvider(model="m", base_url=url, api_key="k"),
}


async def usage_of(api: str, **fields: Any) -> Usage:
    with FakeUpstream(Answer(**fields)) as upstream:
        provider = PROVIDERS[api](upstream.origin)
        events = await answer_of(provider, question())
        await provider.aclose()
    *_, usage = (event for event in events if isinstance(event, Usage))
    return usage


@pytest.mark.parametrize("api", PROVIDERS)
async def test_a_usage_has_what_the_response_says_about_itself(api):
    usage = await usage_of(api, usage=FIGURES, service_tier="priority")
    written_1h = 100 if api == "anthropic-messages" else 0

    assert usage.response_id
    assert usage == Usage(
        *(1_000, 40, "provider", 600, 300, 25, written_1h, "priority", "m", usage.response_id)
    )


@pytest.mark.parametrize("api", PROVIDERS)
async def test_a_turn_is_charged_by_the_tier_and_the_classes_of_its_response(api):
    tier = {"input": "6", "cached_input": "0.6", "cache_write": "7.5", "output": "30"}
    price = Prices.of({"input": "3", "output": "15", "tiers": {"priority": tier}}).at(0)
    usage = await usage_of(api, usage=FIGURES, service_tier="priority")

    assert price.charge(usage) == 100 * 6_000 + 600 * 600 + 300 * 7_500 + 40 * 30_000


@pytest.mark.parametrize(
    ("fields", "nanos"),
    [
        ({"cost": 0.00014}, 140_000),
        ({"estimated_cost": 1.5e-06}, 1_500),
        ({"cost_in_usd_ticks": 37_756_001}, 3_775_601),
    ],
)
@pytest.mark.parametrize("api", ["openai-chat", "openai-responses"])
async def test_the_provider_s_own_price_is_kept_in_nano_dollars(api, fields, nanos):
    assert (await usage_of(api, usage_fields=fields)).stated_cost == nanos


@pytest.mark.parametrize("api", PROVIDERS)
async def test_an_ordinary_answer_was_served_by_the_standard_tier(api):
    price = Prices.of({"input": "3", "output": "15"}).at(0)
    bill = price.bill(await usage_of(api))

    assert (bill.tier, bill.notes) == ("", ())
