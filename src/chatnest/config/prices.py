"""Prices of the models of a configuration."""

from typing import Any

from chatnest.config.sections import ModelSection, ProviderSection
from chatnest.errors import ConfigurationError
from chatnest.prices import Prices

__all__ = ["prices_of"]


def prices_of(place: str, section: ModelSection | ProviderSection) -> Prices | None:
    """The prices in the section of a model, or None without any. Raises ConfigurationError."""
    if section.price is not None and section.prices is not None:
        raise ConfigurationError(
            f"{place}.price: expected price or prices, got both. Move it to [[{place}.prices]], "
            "with a date in from."
        )
    if section.price is not None:
        price: Any = section.price
        return Prices.of(price, f"{place}.price")
    return None if section.prices is None else Prices.of(section.prices, f"{place}.prices")
