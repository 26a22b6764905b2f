"""Every test here that is async runs on asyncio and on trio."""

from collections.abc import Iterator

import pytest

from chatnest.testing import FakeUpstream


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream
