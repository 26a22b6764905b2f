"""Opens the books of a ledger for a command, and ends the process with the command's exit code."""

import os
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NoReturn

import anyio
import msgspec

from chatnest.cli.output import write_error
from chatnest.config.build import naming_keys, open_ledger
from chatnest.config.sections import Config, LedgerSection, load_config
from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.audit import Audit, Audited
from chatnest.ledger.base import Ledger
from chatnest.stores.reasons import reason_of

__all__ = ["Command", "Work", "on_books", "run_on_ledger"]

_PATIENCE: Final = 10.0
"""Minimum timeout of the ledger in seconds. An audit can wait longer than a chat."""

Command = Callable[[Audit, Namespace, Config], Awaitable[int]]
"""A command on the books, which returns its exit code."""

Work = Callable[[Ledger, Audit, Config], Awaitable[int]]
"""Work on a ledger and its books, which returns the exit code."""


def on_books(command: Command, options: Namespace) -> Work:
    """The work that a command on the books does."""

    def work(_ledger: Ledger, audit: Audit, config: Config) -> Awaitable[int]:
        return command(audit, options, config)

    return work


def run_on_ledger(
    options: Namespace,
    work: Work,
    *,
    may_be_missing: bool = False,
    effect: str = "",
    unavailable: int = 1,
) -> NoReturn:
    """Work on the ledger of ``--ledger`` or ``--config`` and on its books, close it, and exit with
    the code of the work.

    If the ledger is unavailable, the exit code is ``unavailable``, and the message ends with
    ``effect``, which explains the consequence for the command. Raises ConfigurationError.
    """
    flags = {"ledger": {} if options.ledger is None else {"url": options.ledger}}
    config = load_config(options.config, os.environ, flags)
    with naming_keys(config):
        ledger = _open_books(config.ledger, may_be_missing=may_be_missing)
    try:
        code = anyio.run(_run, ledger, work, config)
        sys.stdout.flush()
    except LedgerUnavailable as exc:
        write_error(f"{ledger!r} is unavailable: {reason_of(exc)}{effect}")
        code = unavailable
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


async def _run(ledger: Ledger, work: Work, config: Config) -> int:
    if not isinstance(ledger, Audited):
        raise ConfigurationError(
            "ledger.url: expected a ledger that several processes can read, got memory:. Pass the "
            "ledger of the servers, such as --ledger sqlite:chatnest.db."
        )
    try:
        return await work(ledger, ledger.audit(), config)
    finally:
        await ledger.aclose()


def _open_books(section: LedgerSection, *, may_be_missing: bool = False) -> Ledger:
    """Open a ledger with longer timeouts than a chat has. Raises ConfigurationError."""
    scheme, _, path = section.url.partition(":")
    is_there = Path(path).is_file() and Path(path).stat().st_size > 0
    if scheme == "sqlite" and path and not is_there and not may_be_missing:
        raise ConfigurationError(
            f"ledger.url: expected the file of a ledger, got {path!r}, which is missing or empty. "
            "Pass the right file with --ledger."
        )
    patient = max(section.timeout, _PATIENCE), max(section.busy_timeout, _PATIENCE)
    return open_ledger(
        msgspec.structs.replace(section, timeout=patient[0], busy_timeout=patient[1])
    )
