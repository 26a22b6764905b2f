"""The model of a demo: canned answers under every name that the configuration would have."""

from typing import Final

from chatnest.config.prices import prices_of
from chatnest.config.sections import Config
from chatnest.models import DEFAULT_MODEL, Model, is_model_name
from chatnest.providers import DemoProvider

__all__ = ["demo_models"]

_IMAGE_TOKENS: Final = 85
"""Tokens that the demo counts for an image, as gpt-4o does with low detail."""


def demo_models(config: Config) -> dict[str, Model]:
    """The only model of a demo without [models].

    Clients may also ask for it by the name of the real model, so that a program which works with
    the demo works with the model. It takes images, which it does not look at.
    """
    provider = DemoProvider()
    names = (DEFAULT_MODEL, config.provider.model)
    return {
        provider.model: Model(
            provider=provider,
            aliases=tuple(name for name in names if is_model_name(name)),
            max_image_tokens=_IMAGE_TOKENS,
            prices=prices_of("provider", config.provider),
        )
    }
