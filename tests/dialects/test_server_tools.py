"""Tools that the provider runs, which the operator has configured: they are sent and held."""

import json
from typing import Any

import pytest

from chatnest import ConfigurationError
from chatnest.testing import FakeUpstream
from tests.dialects.support import DIALECTS, WEATHER, Dialect, asking, chatting
from tests.streams.support import answer_to

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

SEARCH = {
    "type": "web_search",
    "description": "Looks up what is new. " * 20,
    "user_location": {"type": "approximate", "city": "Oslo"},
}


@pytest.fixture(params=DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def dialect(request) -> Dialect:
    found: Dialect = request.param
    return found


def of_the_operator(dialect: Dialect, upstream: FakeUpstream) -> Any:
    address = upstream.origin if dialect.name == "messages" else upstream.base_url
    options = {"tools": [SEARCH]}
    return dialect.kind(base_url=address, api_key="k", model=dialect.model, options=options)


async def test_they_are_held_in_every_request(dialect, upstream):
    """No count of a tokenizer exceeds the bytes, and Claude's instructions come on top."""
    async with chatting(dialect, upstream) as plain:
        await answer_to(plain.app, asking())
    provider = of_the_operator(dialect, upstream)
    async with chatting(dialect, upstream, provider=provider) as chat:
        await answer_to(chat.app, asking())

    assert upstream.last.json["tools"] == [SEARCH]
    more = chat.turn.input_tokens - plain.turn.input_tokens
    claude = 600 if dialect.name == "messages" else 0
    size = len(json.dumps(SEARCH, indent=4))
    assert size <= more - 64 - claude <= 2 * size
    hold = chat.books.reservations[0]
    assert hold.tokens == chat.turn.input_tokens + chat.turn.max_output_tokens


async def test_they_stand_beside_those_of_the_client(dialect, upstream):
    provider = of_the_operator(dialect, upstream)
    async with chatting(dialect, upstream, provider=provider) as chat:
        await answer_to(chat.app, asking(tools=[WEATHER]))

    client, operator = upstream.last.json["tools"]
    assert operator == SEARCH
    assert client.get("name", client.get("function", {}).get("name")) == "weather"


@pytest.mark.parametrize("tools", [SEARCH, "web_search", [1], [{"x": object()}]])
def test_what_is_no_list_of_objects_stops_the_start(dialect, tools):
    with pytest.raises(
        ConfigurationError, match=r"^options\['tools'\]: expected a list of objects"
    ):
        dialect.kind(
            base_url="http://127.0.0.1:9", api_key="k", model="m", options={"tools": tools}
        )
