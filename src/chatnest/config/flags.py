"""Options of ``serve`` and ``doctor``, which are the same: what one looks at the other runs by."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

__all__ = ["add_settings", "flags_of"]


def add_settings(parser: ArgumentParser) -> None:
    """Where settings come from, and those that have a flag."""
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE.toml", help="the configuration")
    add("--host", help="address to listen on (127.0.0.1)")
    add("--port", type=int, help="port to listen on (8000); 0 takes a free one")
    add("--path", help="path of the chat (/api/chat)")
    add("--ledger", metavar="URL", help="sqlite:FILE (sqlite:chatnest.db), redis://HOST or memory:")
    add("--workers", type=int, metavar="N", help="worker processes (1)")
    add("--demo", action="store_true", help="canned answers: no key, no network, no cost")


def flags_of(options: Namespace) -> dict[str, dict[str, Any]]:
    """Those that were given, by section and key, as load_config takes them."""
    flags = {
        "server": {"host": options.host, "port": options.port, "workers": options.workers},
        "chat": {"path": options.path},
        "ledger": {"url": options.ledger},
    }
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in flags.items()
    }
