"""Checks of the machine and its installed packages. No I/O."""

from functools import partial
from typing import Final

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, ok, skip, warn

__all__ = ["INSTALLED", "MACHINE_CHECKS"]

INSTALLED: Final = ("chatnest", "python", "openai", "starlette", "uvicorn", "redis")
"""Names whose versions are reported if they are installed."""

_OPEN_FILES: Final = 4_096


def _open_files(findings: Findings) -> Check:
    name, limit = "machine.open_files", findings.open_files
    if limit is None:
        return skip(
            name, "this system does not report it", f"allow at least {_OPEN_FILES:,} open files"
        )
    if limit < _OPEN_FILES:
        return warn(
            name,
            f"{limit:,}, and each stream takes two",
            f"run ulimit -n {_OPEN_FILES}, or set LimitNOFILE={_OPEN_FILES}",
        )
    return ok(name, f"{limit:,}")


def _version(findings: Findings, *, of: str) -> Check | None:
    version = findings.versions.get(of)
    return None if version is None else ok(f"version.{of}", version)


MACHINE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _open_files,
    *(partial(_version, of=name) for name in INSTALLED),
)
