"""The command line: ``chatnest serve``, ``ledger``, ``key``, ``doctor`` and ``check``."""

import argparse
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chatnest.config.flags import add_settings, flags_of
from chatnest.errors import ConfigurationError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. For a ConfigurationError, print it and exit with status 2."""
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
    _add_serve(commands)
    _add_ledger(commands)
    _add_key(commands)
    _add_doctor(commands)
    _add_check(commands)
    return parser


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve a chat, and a page to try it on",
        description="Serve a chat, and a page to try it on. Settings come from the file of "
        "--config, from CHATNEST_SECTION__KEY in the environment, and from these flags; "
        "later ones win.",
        epilog="The provider's key is read from OPENAI_API_KEY alone.",
    )
    add_settings(serve)
    serve.set_defaults(run=_serve)


def _add_key(commands: Any) -> None:
    key = commands.add_parser(
        "key",
        help="make a key for somebody to ask with",
        description="Make a random key. It is shown once; the configuration has its hash.",
    )
    key.add_argument("name", metavar="NAME", help="whose tokens it spends")
    key.set_defaults(run=_key)


def _key(options: argparse.Namespace) -> None:
    from chatnest.identity.principals import BearerKeys  # noqa: PLC0415  # as in _serve

    key = secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    BearerKeys({options.name: digest})  # refuses a name that serve would refuse
    sys.stdout.write(
        f"Authorization: Bearer {key}\n\n[identity.keys]\n{json.dumps(options.name)} = "
        f'"sha256:{digest}"\n'
    )


def _add_ledger(commands: Any) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE.toml", help="the configuration")
    shared.add_argument("--ledger", metavar="URL", help="sqlite:FILE or redis://HOST")
    shared.set_defaults(run=_ledger)
    ledger = commands.add_parser(
        "ledger",
        help="see who used how much, correct it, and check that it adds up",
        description="Read and correct the books of a ledger, beside the servers that use it.",
    )
    actions = ledger.add_subparsers(title="actions", dest="action", required=True)

    def action(name: str, text: str) -> Any:
        description = f"{text[0].upper()}{text[1:]}."
        return actions.add_parser(name, help=text, description=description, parents=[shared])

    show = action("show", "what was used and is held, for each day")
    show.add_argument("principal", nargs="?", metavar="PRINCIPAL", help="only theirs")
    holds = action("holds", "what is held for answers that are being written")
    for each in show, holds:
        each.add_argument("--json", action="store_true", help="a JSON object a line")
    export = action("export", "every settled turn and adjustment, a JSON object a line")
    export.add_argument("--since", required=True, metavar="TIME", help="an ISO 8601 date or time")
    adjust = action("adjust", "correct what a principal has used")
    adjust.add_argument("principal", metavar="PRINCIPAL", help="whose account")
    adjust.add_argument("tokens", type=int, metavar="TOKENS", help="-500 gives 500 back")
    adjust.add_argument("--id", required=True, help="repeating an id changes nothing")
    adjust.add_argument("--reason", required=True, metavar="TEXT", help="why, for the records")
    adjust.add_argument("--day", metavar="YYYY-MM-DD", help="today, by budget.timezone")
    adjust.add_argument("--name", help="of the limit, where several count tokens")
    adjust.add_argument("--new", action="store_true", help="begin an account where there is none")
    zone = action("timezone", "count the days of a limit in another time zone")
    zone.add_argument("name", metavar="NAME", help="of the limit, such as tokens")
    zone.add_argument("zone", metavar="ZONE", help="an IANA name, such as Europe/Berlin")
    action("adopt", "make what is at the ledger's address the books of all servers from now on")
    action("verify", "compare balances with records; 1: they differ, 3: it cannot be told")


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="look for what would go wrong, before it does",
        description="Look at the configuration, the ledger's store and this machine, and say what "
        "to change, before `chatnest serve` is run with the same flags. Asks no model. Exit codes: "
        "0, nothing fails; 1, something does; 2, it cannot run like this.",
    )
    add_settings(doctor)
    add = doctor.add_argument
    add("--json", action="store_true", help="a JSON object a line")
    add("--strict", action="store_true", help="exit with 1 for a warning, too")
    doctor.set_defaults(run=_doctor)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="see what a deployed chat is like from outside",
        description="Visit a deployed chat, and say whether frames, pings and a client's leaving "
        "get through what is in between, and what to set where. Asks the model for one short "
        "answer, and leaves it. Exit codes: 0, nothing fails; 1, something does; 2, it cannot be "
        "reached.",
        epilog="Header fields are also read from CHATNEST_CHECK_HEADER, one a line: these are not "
        "seen in the list of processes.",
    )
    add = check.add_argument
    add("url", metavar="URL", help="what you POST to: https://example.org/api/chat")
    add(
        "--header",
        action="append",
        default=[],
        metavar="FIELD",
        help="what says who is asking, such as 'Authorization: Bearer KEY'",
    )
    add("--dry", action="store_true", help="ask the model for nothing")
    add("--json", action="store_true", help="a JSON object a line")
    check.set_defaults(run=_check)


def _serve(options: argparse.Namespace) -> None:
    _check_extra("serve")
    from chatnest.config.sections import load_config  # noqa: PLC0415  # costs time that --help need not
    from chatnest.server.serve import serve  # noqa: PLC0415

    config = load_config(options.config, os.environ, flags_of(options), demo=options.demo)
    has_key = bool(os.environ.get("OPENAI_API_KEY")) or _has_own_server(config, os.environ)
    if not config.demo and not has_key:
        raise ConfigurationError(
            "OPENAI_API_KEY is not set: set it to serve a real model, "
            "or run `chatnest serve --demo` for canned answers without one"
        )
    serve(config)


def _ledger(options: argparse.Namespace) -> None:
    from chatnest.cli.ledger import run  # noqa: PLC0415  # as in _serve

    run(options)


def _doctor(options: argparse.Namespace) -> None:
    _check_extra("doctor")
    from chatnest.diagnostics.doctor import run  # noqa: PLC0415  # as in _serve

    run(options)


def _check(options: argparse.Namespace) -> None:
    from chatnest.diagnostics.check import run  # noqa: PLC0415  # as in _serve

    run(options)


def _check_extra(command: str) -> None:
    """Raise ConfigurationError unless the packages of the extra ``serve`` are installed."""
    if find_spec("uvicorn") is None:
        raise ConfigurationError(
            f"chatnest {command} needs the package uvicorn. Install chatnest with it: "
            "pip install '.[serve]' in a copy of its repository."
        )


def _has_own_server(config: Any, environ: Any) -> bool:
    """Whether a base_url is set: that server may need no key."""
    return bool(config.provider.base_url or environ.get("OPENAI_BASE_URL"))
