"""What a reader's commands run as in tests/docs/walk.py: see there."""

from fastapi import staticfiles  # noqa: F401 - programs import it
from uvicorn.main import main as uvicorn_main

import chatnest.parts
from chatnest import Bounds, DemoProvider
from chatnest.cli import main as chatnest_main
from chatnest.tokens.tokenizer import _ENCODINGS

__all__ = ["chatnest_main", "prepare", "uvicorn_main"]


class _Unhurried(Bounds, frozen=True, kw_only=True):
    """No chat is refused since the machine is busy."""

    ledger_seconds: float = 20
    lag_seconds: float = 60


def prepare() -> None:
    """Load what each server would load, and let the demo type faster."""
    defaults = DemoProvider.__init__.__kwdefaults__
    assert defaults is not None
    defaults["pace"] = 0
    _ENCODINGS["o200k_base"].load()
    vars(chatnest.parts)["Bounds"] = _Unhurried
