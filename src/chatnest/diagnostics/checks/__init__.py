"""Checks of ``chatnest doctor``. Each module has a tuple of the checks of one subject."""

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, Level
from chatnest.diagnostics.checks.machine import MACHINE_CHECKS
from chatnest.diagnostics.checks.profiles import PROFILE_CHECKS
from chatnest.diagnostics.checks.provider import PROVIDER_CHECKS
from chatnest.diagnostics.checks.redis import REDIS_CHECKS
from chatnest.diagnostics.checks.service import SERVICE_CHECKS
from chatnest.diagnostics.checks.sqlite import SQLITE_CHECKS

__all__ = ["CHECKS", "Check", "CheckFunction", "Findings", "Level"]

CHECKS: tuple[CheckFunction, ...] = (
    *SQLITE_CHECKS,
    *REDIS_CHECKS,
    *PROVIDER_CHECKS,
    *SERVICE_CHECKS,
    *PROFILE_CHECKS,
    *MACHINE_CHECKS,
)
