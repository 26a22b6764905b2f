"""Checks of a catalogue: each model with what it takes, and the profiles that have it. No I/O."""

from chatnest.config.thinking import reasoning_warnings
from chatnest.diagnostics.checks.base import Check, Findings, fail, ok, warn

__all__ = ["model_checks"]


def model_checks(findings: Findings) -> list[Check]:
    """Return a verdict for each model of a catalogue."""
    thinking = {key: rest for key, *rest in reasoning_warnings(findings.config)}
    checks = []
    for model in findings.models:
        name = f"models.{model.name}"
        if found := thinking.get(f"{name}.model"):
            checks.append(fail(name, *found))
        elif not model.profiles:
            checks.append(warn(name, str(model), "add it to the models of a profile"))
        else:
            checks.append(ok(name, str(model)))
    return checks
