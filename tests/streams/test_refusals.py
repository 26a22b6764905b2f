"""A principal whose rate is used up costs next to nothing: no counting, no ledger, no model."""

import pytest

from chatnest.testing import FakeUpstream
from tests.streams.support import Books, answer_to, ask, profile, serving

pytestmark = pytest.mark.anyio


async def test_a_known_refusal_is_given_before_anything_is_counted(upstream: FakeUpstream):
    books = Books()
    tiny = profile(name="balanced", requests_per_minute=1)
    async with serving(upstream, ledger=books, profiles=[tiny]) as app:
        assert (await answer_to(app, ask())).status == 200
        first = await answer_to(app, ask())

        class Untouchable:
            def __getattr__(self, name: str) -> object:
                raise AssertionError(f"{name} was asked for")

        app.provider.counter, real = Untouchable(), app.provider.counter  # type: ignore[assignment, misc]
        reserve, books.reserve = books.reserve, None  # type: ignore[assignment, method-assign]
        try:
            again = await answer_to(app, ask("x" * 100_000))
        finally:
            app.provider.counter = real  # type: ignore[misc]
            books.reserve = reserve  # type: ignore[method-assign]

    for refused in first, again:
        assert (refused.status, refused.problem()["code"]) == (429, "rate_limited")
