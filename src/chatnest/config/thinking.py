"""Output limits that a reasoning model may use up before its answer begins. No I/O."""

from typing import Final

from chatnest.config.sections import Config, ModelSection, ProviderSection
from chatnest.providers.openai.models import is_reasoning

__all__ = ["MIN_REASONING_TOKENS", "reasoning_warnings"]

MIN_REASONING_TOKENS: Final = 2_000
"""Minimum output tokens for a reasoning model. Its reasoning counts as output, and takes from a few
hundred to tens of thousands of tokens before the first word of the answer.
"""


def reasoning_warnings(config: Config) -> list[tuple[str, str, str]]:
    """Return a key, a problem and its remedy for each model whose reasoning may use up an output
    limit.
    """
    if config.demo:
        return []
    if not config.models:
        return _warnings(config, "provider", config.provider, config.provider.model, None)
    return [
        warning
        for name, model in config.models.items()
        for warning in _warnings(config, f"models.{name}", model, model.model or name, name)
    ]


def _warnings(
    config: Config,
    place: str,
    section: ModelSection | ProviderSection,
    model: str,
    name: str | None,
) -> list[tuple[str, str, str]]:
    """The warning of one model. ``name`` is its name for profiles, None for the only model."""
    reasons = is_reasoning(model) if section.reasons is None else section.reasons
    short = [
        each.name
        for each in config.profiles
        if each.max_output_tokens < MIN_REASONING_TOKENS
        and (name is None or each.models is None or name in each.models)
    ]
    if not short or not reasons or section.reasoning_effort in {"none", "minimal"}:
        return []
    found = f"{model} reasons before it answers, so {', '.join(short)} may end without an answer"
    advice = (
        "raise max_output_tokens and max_tokens_per_request of these profiles to "
        f"at least {MIN_REASONING_TOKENS:,}, or lower {place}.reasoning_effort"
    )
    return [(f"{place}.model", found, advice)]
