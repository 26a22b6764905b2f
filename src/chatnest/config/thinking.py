"""Output limits that a reasoning model may use up before its answer begins. No I/O."""

from typing import Final

from chatnest.config.sections import Config
from chatnest.providers.openai.models import is_reasoning

__all__ = ["MIN_REASONING_TOKENS", "reasoning_warning"]

MIN_REASONING_TOKENS: Final = 2_000
"""Minimum output tokens for a reasoning model. Its reasoning counts as output, and takes from a few
hundred to tens of thousands of tokens before the first word of the answer.
"""


def reasoning_warning(config: Config) -> tuple[str, str] | None:
    """Return a problem and its remedy if reasoning may use up an output limit, else None."""
    model, effort = config.provider.model, config.provider.reasoning_effort
    limits = {each.name: each.max_output_tokens for each in config.profiles}
    short = [name for name, limit in limits.items() if limit < MIN_REASONING_TOKENS]
    if config.demo or not short or not is_reasoning(model) or effort in {"none", "minimal"}:
        return None
    found = f"{model} reasons before it answers, so {', '.join(short)} may end without an answer"
    advice = (
        "raise max_output_tokens and max_tokens_per_request of these profiles to "
        f"at least {MIN_REASONING_TOKENS:,}, or lower provider.reasoning_effort"
    )
    return found, advice
