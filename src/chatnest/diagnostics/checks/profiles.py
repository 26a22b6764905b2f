"""Checks of profiles: the ones open to clients, and limits that can never be reached. No I/O."""

from typing import Final

import msgspec

from chatnest.config.build import open_profiles
from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, ok, warn
from chatnest.profiles import Profile

__all__ = ["PROFILE_CHECKS"]

_USUAL_LEAST: Final = next(
    field.default for field in msgspec.structs.fields(Profile) if field.name == "min_output_tokens"
)


def _profiles(findings: Findings) -> Check:
    """Report the open profiles, or a limit that another limit of its profile makes unreachable.

    Such a limit is lowered to fit, as in chat-nest, which may not be the intention.
    """
    name = "profiles"
    for profile in findings.config.profiles:
        for first, second in _unreached(profile):
            return warn(
                name,
                f"{profile.name}: {first} ({getattr(profile, first)}) is never reached: "
                f"{second} is {getattr(profile, second)}",
                "lower the first, or raise the second",
            )
    allowed = open_profiles(findings.config)
    names = [profile.name for profile in findings.config.profiles]
    opened = f"open: {', '.join(each for each in names if each in allowed)}"
    for plan, each in findings.config.plans.items():
        opened += f"; by the plan {plan}: {', '.join(each.profiles or ()) or 'the same'}"
        allowed = [*allowed, *(each.profiles or ())]
    closed = ", ".join(each for each in names if each not in allowed)
    return ok(name, f"{opened}; closed: {closed}" if closed else opened)


def _unreached(profile: Profile) -> list[tuple[str, str]]:
    pairs = []
    if profile.max_output_tokens >= profile.max_tokens_per_request:  # the input counts, too
        pairs.append(("max_output_tokens", "max_tokens_per_request"))
    if profile.max_tokens_per_request > profile.daily_token_limit:
        pairs.append(("max_tokens_per_request", "daily_token_limit"))
    if profile.max_output_tokens < profile.min_output_tokens != _USUAL_LEAST:
        pairs.append(("min_output_tokens", "max_output_tokens"))
    return pairs


PROFILE_CHECKS: Final[tuple[CheckFunction, ...]] = (_profiles,)
