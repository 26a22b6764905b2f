"""What these tests measure is kept where they ran at length."""

from collections.abc import Callable

import pytest

from tests.endurance.results import Results
from tests.support.soak import SOAKS

Measured = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    if SOAKS and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config))


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Keeps a figure: ``what`` was measured, ``where``, what was aimed at, and what came of it."""

    def note(*, what: str, where: str, target: str, figure: str) -> None:
        record_property(
            "measured", {"what": what, "where": where, "target": target, "figure": figure}
        )
        print(f"{what} · {where} · {target} · {figure}")

    return note
