"""Checks of the machine, and of what is installed on it. No I/O."""

from functools import partial
from typing import Final

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, ok, skip, warn

__all__ = ["INSTALLED", "MACHINE_CHECKS"]

INSTALLED: Final = ("chatnest", "python", "openai", "starlette", "uvicorn", "redis")
"""What versions are shown of, where it is there."""

_OPEN_FILES: Final = 4_096


def _open_files(findings: Findings) -> Check:
    name, limit = "machine.open_files", findings.open_files
    if limit is None:
        return skip(
            name, "this system does not tell", f"see that a process may open {_OPEN_FILES:,}"
        )
    if limit < _OPEN_FILES:
        return warn(
            name, f"{limit:,}: each stream takes two", f"ulimit -n {_OPEN_FILES}, or LimitNOFILE="
        )
    return ok(name, f"{limit:,}")


def _version(findings: Findings, *, of: str) -> Check | None:
    version = findings.versions.get(of)
    return None if version is None else ok(f"version.{of}", version)


MACHINE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _open_files,
    *(partial(_version, of=name) for name in INSTALLED),
)
