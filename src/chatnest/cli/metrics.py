"""``chatnest metrics``: print the alert rules and the dashboard that come with the package."""

import sys
from argparse import Namespace
from importlib.resources import files

__all__ = ["run"]

_FILES = {"rules": "rules.yml", "dashboard": "dashboard.json"}


def run(options: Namespace) -> None:
    """Print one of the files."""
    file = files("chatnest.telemetry") / "shipped" / _FILES[options.action]
    sys.stdout.write(file.read_text(encoding="utf-8"))
