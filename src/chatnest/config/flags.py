"""Options of ``serve`` and ``doctor``: both take the same, so ``doctor`` checks a later run."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

__all__ = ["add_settings", "flags_of"]


def add_settings(parser: ArgumentParser) -> None:
    """Add ``--config``, and a flag for each setting that has one."""
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE.toml", help="the configuration file")
    add("--host", help="address to listen on (127.0.0.1)")
    add("--port", type=int, help="port to listen on (8000); 0 picks a free one")
    add("--path", help="path of the chat (/api/chat)")
    add("--ledger", metavar="URL", help="sqlite:FILE (sqlite:chatnest.db), redis://HOST or memory:")
    add("--workers", type=int, metavar="N", help="worker processes (1)")
    add("--demo", action="store_true", help="canned answers, without a key, network or cost")


def flags_of(options: Namespace) -> dict[str, dict[str, Any]]:
    """Return the flags that were given, by section and key, in the form load_config takes."""
    flags = {
        "server": {"host": options.host, "port": options.port, "workers": options.workers},
        "chat": {"path": options.path},
        "ledger": {"url": options.ledger},
    }
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in flags.items()
    }
