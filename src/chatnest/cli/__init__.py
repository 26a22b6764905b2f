"""The command line: ``chatnest serve``, ``top``, ``usage``, ``ledger``, ``metrics`` and more."""

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
    """Run the command line. A ConfigurationError is printed, and the exit code is 2."""
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
    _add_top(commands)
    _add_ledger(commands)
    _add_usage(commands)
    _add_prices(commands)
    _add_metrics(commands)
    _add_key(commands)
    _add_doctor(commands)
    _add_check(commands)
    return parser


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve a chat and a page to try it",
        description="Serve a chat and a page to try it. Settings come from the file of --config, "
        "from CHATNEST_SECTION__KEY in the environment, and from these flags. Flags override the "
        "environment, and the environment overrides the file.",
        epilog="A provider's key is only read from the environment: OPENAI_API_KEY, or "
        "ANTHROPIC_API_KEY for Anthropic's API, unless api_key_env names another variable.",
    )
    add_settings(serve)
    serve.set_defaults(run=_serve)


def _add_key(commands: Any) -> None:
    key = commands.add_parser(
        "key",
        help="create a bearer key for a user",
        description="Create a random bearer key. The key is shown only now. The configuration "
        "contains its hash.",
    )
    key.add_argument("name", metavar="NAME", help="the user whose tokens the key spends")
    key.set_defaults(run=_key)


def _key(options: argparse.Namespace) -> None:
    from chatnest.identity.keys import BearerKeys  # noqa: PLC0415  # as in _serve

    key = secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    BearerKeys({options.name: digest})  # raises for a name that serve would reject
    sys.stdout.write(
        f"Authorization: Bearer {key}\n\n[identity.keys]\n{json.dumps(options.name)} = "
        f'"sha256:{digest}"\n'
    )


def _of_books() -> argparse.ArgumentParser:
    """The flags that name the books."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE.toml", help="the configuration file")
    shared.add_argument("--ledger", metavar="URL", help="sqlite:FILE or redis://HOST")
    return shared


def _add_usage(commands: Any) -> None:
    usage = commands.add_parser(
        "usage",
        help="show who used what, on which model",
        description="Show the turns, tokens and cost of the last days, from the roll-up of the "
        "ledger, which is kept for 400 days. Days are of UTC.",
        parents=[_of_books()],
    )
    add = usage.add_argument
    add(
        "--by",
        metavar="NAMES",
        help="day, principal, model, profile, outcome and names of groups, with commas between "
        "them; by default principal",
    )
    add(
        "--since",
        default="30d",
        metavar="DAYS",
        help="a number of days with today, such as 30d, which is the default, or a date",
    )
    form = usage.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line")
    form.add_argument("--csv", action="store_true", help="comma-separated values")
    form.add_argument(
        "--format", choices=["focus"], help="the columns of FOCUS 1.0, for a tool that reads bills"
    )
    add("--refusals", action="store_true", help="how often each limit refused, by hour, instead")
    usage.set_defaults(run=_usage)


def _add_ledger(commands: Any) -> None:
    shared = _of_books()
    shared.set_defaults(run=_ledger)
    ledger = commands.add_parser(
        "ledger",
        help="show, correct and verify what users have spent",
        description="Read, correct and verify the books of a ledger while servers use it.",
    )
    actions = ledger.add_subparsers(title="actions", dest="action", required=True)

    def action(name: str, text: str) -> Any:
        description = f"{text[0].upper()}{text[1:]}."
        return actions.add_parser(name, help=text, description=description, parents=[shared])

    show = action("show", "show used and held tokens and streams, by day")
    show.add_argument(
        "principal", nargs="?", metavar="PRINCIPAL", help="the only principal to show"
    )
    holds = action("holds", "show the holds (reservations) of running answers")
    warnings = action("warnings", "show the thresholds of limits that were reached")
    for each in show, holds, warnings:
        each.add_argument("--json", action="store_true", help="one JSON object per line")
    export = action("export", "export settled turns and adjustments, one JSON object per line")
    export.add_argument("--since", required=True, metavar="TIME", help="an ISO 8601 date or time")
    adjust = action("adjust", "correct the used tokens of a principal")
    adjust.add_argument("principal", metavar="PRINCIPAL", help="the principal, as in show")
    adjust.add_argument("amount", metavar="AMOUNT", help="-500 gives 500 tokens back, -0.50 money")
    adjust.add_argument("--id", required=True, help="a repeated id changes nothing")
    adjust.add_argument(
        "--reason", required=True, metavar="TEXT", help="the reason, for the records"
    )
    adjust.add_argument("--day", metavar="YYYY-MM-DD", help="by default today, in budget.timezone")
    adjust.add_argument("--name", help="the limit, if the principal has several")
    adjust.add_argument("--new", action="store_true", help="create an account for a new principal")
    grant = action("grant", "add to the lifetime limit of a principal")
    grant.add_argument("principal", metavar="PRINCIPAL", help="the principal, as in show")
    grant.add_argument("amount", metavar="AMOUNT", help="such as 20.00, or a number of tokens")
    grant.add_argument("--id", required=True, help="a repeated id changes nothing")
    grant.add_argument(
        "--reason", required=True, metavar="TEXT", help="the reason, for the records"
    )
    grant.add_argument("--name", help="the limit, if the configuration has several of a lifetime")
    zone = action("timezone", "count the days of a limit in another time zone")
    zone.add_argument("name", metavar="NAME", help="the limit, such as tokens")
    zone.add_argument("zone", metavar="ZONE", help="an IANA name, such as Europe/Berlin")
    action("adopt", "accept the store at the ledger's address as the books of all servers")
    action("verify", "compare balances with records; exit codes: 1, they differ; 3, unknown")


def _add_top(commands: Any) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE.toml", help="the configuration file")
    shared.add_argument("--ledger", metavar="URL", help="sqlite:FILE or redis://HOST")
    shared.add_argument("--json", action="store_true", help="one JSON object per line")
    top = commands.add_parser(
        "top",
        help="show the running answers of all workers, and stop one",
        description="Show the running answers of all workers that share a ledger. On a terminal "
        "the table is live: choose a row, s stops it, q quits. Tokens are estimates.",
        parents=[shared],
    )
    top.add_argument("--once", action="store_true", help="show them once, also on a terminal")
    top.set_defaults(run=_top, action=None)
    actions = top.add_subparsers(title="actions", dest="action")
    stop = actions.add_parser(
        "stop",
        help="stop an answer",
        description="Stop an answer, and show what it was charged. Exit codes: 0, it is stopped; "
        "1, there is no such answer, or the ledger is unavailable; 3, its worker is silent.",
        parents=[shared],
    )
    stop.add_argument("id", metavar="ID", help="the id, as in the table")
    stop.set_defaults(run=_top)


def _add_prices(commands: Any) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE.toml", help="the configuration file")
    shared.set_defaults(run=_prices)
    prices = commands.add_parser(
        "prices",
        help="write and compare the prices of models",
        description="Write the prices of models from the package genai-prices, or compare them "
        "with it. The installed package is read, and nothing is fetched.",
    )
    actions = prices.add_subparsers(title="actions", dest="action", required=True)
    suggest = actions.add_parser(
        "suggest",
        help="write prices as TOML",
        description="Write the prices of models as TOML, for the configuration. Exit codes: 0, all "
        "models have one; 1, one has none; 2, the configuration cannot be used.",
        parents=[shared],
    )
    add = suggest.add_argument
    add("models", nargs="*", metavar="MODEL", help="upstream names in place of the configuration's")
    add("--provider", metavar="NAME", help="the library's name of the provider, such as openai")
    add("--tiers", action="store_true", help="service tiers dearer than the standard one, too")
    add("--history", action="store_true", help="past prices, too")
    actions.add_parser(
        "check",
        help="compare the configuration with the library",
        description="Compare the prices that are in force today with the library's. Exit codes: 0, "
        "they are the same; 1, they differ, or a model has none; 2, the configuration cannot be "
        "used; 3, the library has none of them.",
        parents=[shared],
    )


def _add_metrics(commands: Any) -> None:
    metrics = commands.add_parser(
        "metrics",
        help="print alert rules and a dashboard for Prometheus and Grafana",
        description="Print the alert rules for Prometheus or the dashboard for Grafana, which use "
        "the metrics of `chatnest serve` with server.metrics_port.",
    )
    actions = metrics.add_subparsers(title="actions", dest="action", required=True)
    actions.add_parser("rules", help="print the alert rules, as YAML")
    actions.add_parser("dashboard", help="print the dashboard, as JSON")
    metrics.set_defaults(run=_metrics)


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check a configuration before it is served",
        description="Check the configuration, the ledger's store and this machine, and advise what "
        "to change before `chatnest serve` runs with the same flags. Sends no request to a model. "
        "Exit codes: 0, no check fails; 1, a check fails; 2, the configuration cannot be used.",
    )
    add_settings(doctor)
    add = doctor.add_argument
    add("--json", action="store_true", help="one JSON object per line")
    add("--strict", action="store_true", help="exit with 1 for warnings, too")
    doctor.set_defaults(run=_doctor)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="check a deployed chat from outside",
        description="Check whether frames, pings and disconnects pass the proxies in front of a "
        "deployed chat, and advise what to change. Requests one answer and disconnects in the "
        "middle. Exit codes: 0, no check fails; 1, a check fails; 2, the chat cannot be reached.",
        epilog="Header fields are also read from CHATNEST_CHECK_HEADER, one per line. The list of "
        "processes does not show them.",
    )
    add = check.add_argument
    add("url", metavar="URL", help="the address that clients POST to: https://example.org/api/chat")
    add(
        "--header",
        action="append",
        default=[],
        metavar="FIELD",
        help="a header field of your clients, such as 'Authorization: Bearer KEY'",
    )
    add("--dry", action="store_true", help="request no answer from the model")
    add("--json", action="store_true", help="one JSON object per line")
    check.set_defaults(run=_check)


def _serve(options: argparse.Namespace) -> None:
    _check_extra("serve")
    from chatnest.config.catalogue import address_of, key_variable  # noqa: PLC0415  # --help stays fast
    from chatnest.config.sections import load_config  # noqa: PLC0415
    from chatnest.server.serve import serve  # noqa: PLC0415

    config = load_config(options.config, os.environ, flags_of(options), demo=options.demo)
    variable = key_variable(config.provider)
    has_key = os.environ.get(variable) or address_of(config.provider)  # which may need no key
    if not (config.demo or config.models or config.providers or has_key):
        raise ConfigurationError(
            f"{variable}: expected the key of a model's provider, got none. Set it, or run "
            "`chatnest serve --demo` for canned answers without a model."
        )
    serve(config)


def _ledger(options: argparse.Namespace) -> None:
    from chatnest.cli.ledger import run  # noqa: PLC0415  # as in _serve

    run(options)


def _top(options: argparse.Namespace) -> None:
    from chatnest.cli.top import run  # noqa: PLC0415  # as in _serve

    run(options)


def _usage(options: argparse.Namespace) -> None:
    from chatnest.cli.usage import run  # noqa: PLC0415  # as in _serve

    run(options)


def _prices(options: argparse.Namespace) -> None:
    _check_extra("prices", package="genai_prices", extra="prices")
    from chatnest.cli.prices import run  # noqa: PLC0415  # as in _serve

    run(options)


def _metrics(options: argparse.Namespace) -> None:
    from chatnest.cli.metrics import run  # noqa: PLC0415  # as in _serve

    run(options)


def _doctor(options: argparse.Namespace) -> None:
    _check_extra("doctor")
    from chatnest.diagnostics.doctor import run  # noqa: PLC0415  # as in _serve

    run(options)


def _check(options: argparse.Namespace) -> None:
    from chatnest.diagnostics.check import run  # noqa: PLC0415  # as in _serve

    run(options)


def _check_extra(command: str, *, package: str = "uvicorn", extra: str = "serve") -> None:
    """Raise ConfigurationError unless the packages of an extra are installed."""
    if find_spec(package) is None:
        raise ConfigurationError(
            f"chatnest {command}: expected the package {package.replace('_', '-')}, got none. "
            f"Install the extra `{extra}`: pip install '.[{extra}]' in a copy of the repository."
        )
