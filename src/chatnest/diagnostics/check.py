"""``chatnest check``: probes a deployed chat from outside, through its proxies."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

import anyio

from chatnest.diagnostics.checks.endpoint import ENDPOINT_CHECKS
from chatnest.diagnostics.probe import probe
from chatnest.diagnostics.report import report
from chatnest.errors import ConfigurationError

__all__ = ["HEADER_VARIABLE", "run"]

HEADER_VARIABLE: Final = "CHATNEST_CHECK_HEADER"
"""Environment variable with header fields, one a line. The list of processes does not show it."""

_BAD: Final = 1
"""Exit code if a check fails. A deployment that cannot be reached gives 2."""


def run(options: Namespace) -> None:
    """Probe, print and exit. Raises ConfigurationError if the URL is invalid or unreachable."""
    fields = [*os.environ.get(HEADER_VARIABLE, "").splitlines(), *options.header]
    headers = _headers([field for field in fields if field.strip()])
    observed = anyio.run(lambda: probe(options.url, headers, dry=options.dry))
    checks = [check for make in ENDPOINT_CHECKS if (check := make(observed)) is not None]
    report(checks, as_json=options.json)
    sys.exit(_BAD if any(check.level == "fail" for check in checks) else 0)


def _headers(fields: Sequence[str]) -> dict[str, str]:
    headers = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name.strip() or not field.isprintable() or not field.isascii():
            raise ConfigurationError(
                "--header: expected 'Name: value' in printable ASCII, got another form. "
                f"Correct --header or {HEADER_VARIABLE}."
            )
        headers[name.strip()] = value.strip()
    return headers
