"""Providers: the sources of answers. HTTP in one folder, each dialect in another."""

from chatnest.providers.anthropic_messages.provider import AnthropicProvider
from chatnest.providers.base import OfferingStream, Provider, ProviderStream, Taker
from chatnest.providers.demo import DemoProvider
from chatnest.providers.http.network import ServerSettings
from chatnest.providers.openai_chat.parameters import ModelParameters
from chatnest.providers.openai_chat.provider import OpenAIProvider

__all__ = [
    "AnthropicProvider",
    "DemoProvider",
    "ModelParameters",
    "OfferingStream",
    "OpenAIProvider",
    "Provider",
    "ProviderStream",
    "ServerSettings",
    "Taker",
]
