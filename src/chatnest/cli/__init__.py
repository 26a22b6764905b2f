"""The command line: ``chatnest serve``."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chatnest.errors import ConfigurationError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Ends with status 2 and one sentence for what cannot work."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ConfigurationError as exc:
        sys.stderr.write(f"chatnest: {exc}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chatnest", description="An LLM chat behind your own endpoint."
    )
    parser.add_argument("--version", action="version", version=f"chatnest {version('chatnest')}")
    commands = parser.add_subparsers(title="commands", required=True)
    serve = commands.add_parser(
        "serve",
        help="serve a chat, and a page to try it on",
        description="Serve a chat, and a page to try it on. Settings come from the file of "
        "--config, from CHATNEST_SECTION__KEY in the environment, and from these flags; "
        "later ones win.",
        epilog="The provider's key is read from OPENAI_API_KEY alone.",
    )
    add = serve.add_argument
    add("--config", type=Path, metavar="FILE.toml", help="the configuration")
    add("--host", help="address to listen on (127.0.0.1)")
    add("--port", type=int, help="port to listen on (8000); 0 takes a free one")
    add("--path", help="path of the chat (/api/chat)")
    add("--ledger", metavar="URL", help="sqlite:FILE (sqlite:chatnest.db), redis://HOST or memory:")
    add("--workers", type=int, help="worker processes (1)")
    add("--demo", action="store_true", help="canned answers: no key, no network, no cost")
    serve.set_defaults(run=_serve)
    return parser


def _serve(options: argparse.Namespace) -> None:
    import msgspec  # noqa: PLC0415  # these cost time that --help need not

    from chatnest.cli.config import load_config  # noqa: PLC0415
    from chatnest.cli.serve import serve  # noqa: PLC0415

    flags: dict[str, dict[str, Any]] = {
        "server": {"host": options.host, "port": options.port, "workers": options.workers},
        "chat": {"path": options.path},
        "ledger": {"url": options.ledger},
    }
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in flags.items()
    }
    config = load_config(options.config, os.environ, given)
    if options.demo:
        config = msgspec.structs.replace(config, demo=True)
    elif not os.environ.get("OPENAI_API_KEY") and not _has_own_server(config, os.environ):
        raise ConfigurationError(
            "OPENAI_API_KEY is not set: set it to serve a real model, "
            "or run `chatnest serve --demo` for canned answers without one"
        )
    serve(config)


def _has_own_server(config: Any, environ: Any) -> bool:
    """A base_url that was chosen may be a server that needs no key."""
    return bool(config.provider.base_url or environ.get("OPENAI_BASE_URL"))
