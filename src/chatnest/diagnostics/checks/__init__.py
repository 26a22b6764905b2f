"""Checks of ``chatnest doctor``. Each module has a tuple of the checks of one subject."""

from collections.abc import Sequence

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, Level
from chatnest.diagnostics.checks.machine import MACHINE_CHECKS
from chatnest.diagnostics.checks.models import model_checks
from chatnest.diagnostics.checks.profiles import PROFILE_CHECKS
from chatnest.diagnostics.checks.provider import PROVIDER_CHECKS
from chatnest.diagnostics.checks.redis import REDIS_CHECKS
from chatnest.diagnostics.checks.service import SERVICE_CHECKS
from chatnest.diagnostics.checks.sqlite import SQLITE_CHECKS

__all__ = ["CHECKS", "Check", "CheckFunction", "Findings", "Level", "checks_of"]

CHECKS: tuple[CheckFunction, ...] = (
    *SQLITE_CHECKS,
    *REDIS_CHECKS,
    *PROVIDER_CHECKS,
    *SERVICE_CHECKS,
    *PROFILE_CHECKS,
    *MACHINE_CHECKS,
)


def checks_of(findings: Findings, providers: Sequence[Findings]) -> list[Check]:
    """Return all verdicts that apply. ``providers`` are the findings about each provider."""
    checks = []
    for make in CHECKS:
        if make is PROFILE_CHECKS[0]:
            checks += model_checks(findings)
        each = providers if make in PROVIDER_CHECKS else (findings,)
        checks += [check for one in each if (check := make(one)) is not None]
    return checks
