"""Every stream runs once more at a server that can send without waiting."""

import importlib
import pkgutil

import pytest

import tests.streams
from tests.streams.short_cut import SendsNow

_HERE = tests.streams.__path__, f"{tests.streams.__name__}."
_MODULES = [module.name for module in pkgutil.iter_modules(*_HERE)]


@pytest.fixture(autouse=True, params=["waits", "sends-now"])
def server(request, monkeypatch):
    """In the place of a test's own Conversation, and of those in its support."""
    if request.param == "sends-now":
        for name in _MODULES:
            module = importlib.import_module(name)
            if hasattr(module, "Conversation"):
                monkeypatch.setattr(module, "Conversation", SendsNow)
    return request.param
