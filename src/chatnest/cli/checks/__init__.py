"""Checks: what ``chatnest doctor`` looks at. Each file has those of one thing, as a tuple."""

from chatnest.cli.checks.base import Check, CheckFunction, Findings, Level
from chatnest.cli.checks.machine import MACHINE_CHECKS
from chatnest.cli.checks.profiles import PROFILE_CHECKS
from chatnest.cli.checks.provider import PROVIDER_CHECKS
from chatnest.cli.checks.redis import REDIS_CHECKS
from chatnest.cli.checks.service import SERVICE_CHECKS
from chatnest.cli.checks.sqlite import SQLITE_CHECKS

__all__ = ["CHECKS", "Check", "CheckFunction", "Findings", "Level"]

CHECKS: tuple[CheckFunction, ...] = (
    *SQLITE_CHECKS,
    *REDIS_CHECKS,
    *PROVIDER_CHECKS,
    *SERVICE_CHECKS,
    *PROFILE_CHECKS,
    *MACHINE_CHECKS,
)
