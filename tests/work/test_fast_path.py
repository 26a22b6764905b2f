"""The fast path of a token is drawn in the docstring of OfferingStream, by names that exist."""

import re
from collections import Counter
from importlib import import_module
from operator import attrgetter

import pytest

from chatnest.providers.base import OfferingStream
from tests.work.trace import AN_EXCHANGE, posted

DRAWN = re.findall(r"([a-z_0-9.]+):([\w.]+) ", OfferingStream.__doc__ or "")
PARSED_IN_C = "ResponseParser"


@pytest.mark.parametrize(("module", "name"), DRAWN)
def test_the_names_of_the_fast_path_exist(module, name):
    assert attrgetter(name)(import_module(f"chatnest.{module}"))


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_a_token_takes_the_path_that_is_drawn(monkeypatch):
    drawn = [f"{module}:{name}" for module, name in DRAWN if name != PARSED_IN_C]
    assert drawn[0].endswith("data_received")
    seen: list[list[str]] = [[]]
    for call in (await posted(monkeypatch)).calls:
        if call.name == drawn[0]:
            seen.append([])
        if call.name in drawn:
            seen[-1].append(call.name)

    ((usual, times),) = Counter(map(tuple, seen)).most_common(1)
    assert list(usual) == drawn
    assert times > AN_EXCHANGE.counted
