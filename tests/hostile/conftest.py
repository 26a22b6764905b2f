"""What a soak of these tests has to tell."""

import pytest

from tests.ledger.soak import SOAKS, Progress


def pytest_configure(config: pytest.Config) -> None:
    told = any(isinstance(plugin, Progress) for plugin in config.pluginmanager.get_plugins())
    if SOAKS and not told:
        config.pluginmanager.register(Progress(config))
