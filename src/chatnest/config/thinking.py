"""Output limits that a reasoning model may use up before its answer begins. No I/O."""

from typing import Final

from chatnest.config.sections import Config
from chatnest.providers.openai_chat.parameters import is_reasoning

__all__ = ["LEAST_THINKING_TOKENS", "thinks_too_long"]

LEAST_THINKING_TOKENS: Final = 2_000
"""Output that a reasoning model needs at least. Its thinking counts as output, and takes from some
hundred to tens of thousands of tokens before the first word of the answer.
"""


def thinks_too_long(config: Config) -> tuple[str, str] | None:
    """What thinking can use up before an answer begins, and what to do about it; or None."""
    model, effort = config.provider.model, config.provider.reasoning_effort
    limits = {each.name: each.max_output_tokens for each in config.profiles}
    short = [name for name, limit in limits.items() if limit < LEAST_THINKING_TOKENS]
    if config.demo or not short or not is_reasoning(model) or effort in {"none", "minimal"}:
        return None
    found = f"{model} thinks before it answers, and {', '.join(short)} may end without an answer"
    advice = (
        "raise max_output_tokens and max_tokens_per_request of these profiles to "
        f"{LEAST_THINKING_TOKENS:,} and more, or lower provider.reasoning_effort"
    )
    return found, advice
