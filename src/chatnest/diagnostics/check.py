"""``chatnest check``: what a deployed chat is like from outside, proxies and all."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

import anyio

from chatnest.diagnostics.checks.endpoint import ENDPOINT_CHECKS
from chatnest.diagnostics.report import report
from chatnest.diagnostics.visit import visit
from chatnest.errors import ConfigurationError

__all__ = ["HEADER_VARIABLE", "run"]

HEADER_VARIABLE: Final = "CHATNEST_CHECK_HEADER"
"""One header field a line, which the list of processes does not show."""

_BAD: Final = 1
"""Exit code; what cannot be looked at is 2."""


def run(options: Namespace) -> None:
    """Visit, print and exit. Raises ConfigurationError for what cannot be visited."""
    fields = [*os.environ.get(HEADER_VARIABLE, "").splitlines(), *options.header]
    headers = _headers([field for field in fields if field.strip()])
    seen = anyio.run(lambda: visit(options.url, headers, dry=options.dry))
    checks = [check for make in ENDPOINT_CHECKS if (check := make(seen)) is not None]
    report(checks, as_json=options.json)
    sys.exit(_BAD if any(check.level == "fail" for check in checks) else 0)


def _headers(fields: Sequence[str]) -> dict[str, str]:
    headers = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name.strip() or not field.isprintable() or not field.isascii():
            raise ConfigurationError("a header is written as 'Name: value', in ASCII, on one line")
        headers[name.strip()] = value.strip()
    return headers
