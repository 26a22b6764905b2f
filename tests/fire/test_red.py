"""Shielded settlement taken out: the check on it fails. Other guards: tests/ledger/test_red.py."""

import anyio
import anyio.lowlevel
import pytest

from chatnest import answering
from chatnest.testing import Answer, Conversation
from tests.streams.support import Books, ask, serving

pytestmark = pytest.mark.anyio


class Slow(Books):
    """Its settlements need a moment, as those of every ledger with a disk or a network do."""

    async def settle(self, hold, charge):
        await anyio.lowlevel.checkpoint()
        return await super().settle(hold, charge)


async def a_stop_is_settled(upstream) -> None:
    upstream.default = Answer.stall(1)
    books = Slow()
    async with serving(upstream, ledger=books) as app:
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: b'"Hello"' in c.received)
        assert (await books.held())[0] == 0


async def test_with_its_shield_a_stop_is_settled(upstream):
    await a_stop_is_settled(upstream)


async def test_without_its_shield_the_check_fails(upstream, monkeypatch):
    monkeypatch.setattr(answering, "move_on_after", lambda s, shield: anyio.move_on_after(s))

    with pytest.raises(AssertionError):
        await a_stop_is_settled(upstream)
