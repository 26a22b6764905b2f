"""Mixtures: [provider] alone, or [models] with [providers], and what does not fit together."""

from typing import Final

from chatnest.config.sections import DEFAULT_PROVIDER, Config, NamedProvider, ProviderSection
from chatnest.errors import ConfigurationError

__all__ = ["check_mixture", "is_set", "place_of_provider", "provider_section"]

_OF_MODEL: Final = tuple(
    field
    for field in ProviderSection.__struct_fields__
    if field not in NamedProvider.__struct_fields__
)
"""Settings of a model that [provider] has for its only one."""


def place_of_provider(provider: str) -> str:
    """The place of a provider's settings."""
    return "provider" if provider == DEFAULT_PROVIDER else f"providers.{provider}"


def provider_section(config: Config, provider: str) -> NamedProvider:
    """The settings of a provider by its name."""
    return config.provider if provider == DEFAULT_PROVIDER else config.providers[provider]


def is_set(config: Config, field: str) -> bool:
    """Whether [provider] has a field. A Config made in Python has no sources."""
    default = getattr(ProviderSection(), field)
    return f"provider.{field}" in config.sources or getattr(config.provider, field) != default


def check_mixture(config: Config) -> None:
    """Raise ConfigurationError for providers and models that do not fit each other."""
    if DEFAULT_PROVIDER in config.providers:
        raise ConfigurationError(
            f"providers.{DEFAULT_PROVIDER}: expected another name, got the one of [provider]. "
            "Rename it, or write its settings in [provider]."
        )
    if config.providers and not config.models:
        name = next(iter(config.providers))
        raise ConfigurationError(
            f"providers.{name}: expected a model that uses it, got no [models]. Add [models.NAME] "
            f'with provider = "{name}".'
        )
    known = (DEFAULT_PROVIDER, *config.providers)
    for name, model in config.models.items():
        if model.provider not in known:
            raise ConfigurationError(
                f"models.{name}.provider: expected one of {', '.join(known)}, got "
                f"{model.provider!r}. Correct the name, or add [providers.{model.provider}]."
            )
    if config.models:
        for field in _OF_MODEL:
            if is_set(config, field):
                raise ConfigurationError(
                    f"provider.{field}: expected no setting of a model beside [models], got "
                    f"{getattr(config.provider, field)!r}. Move it to [models.NAME]."
                )
