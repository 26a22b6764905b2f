"""Providers: the sources of answers. HTTP in one folder, each dialect in another."""

from chatnest.providers.anthropic_messages.provider import AnthropicProvider
from chatnest.providers.base import OfferingStream, Provider, ProviderStream, Taker
from chatnest.providers.demo import DemoProvider
from chatnest.providers.http.network import ServerSettings
from chatnest.providers.openai_chat.parameters import ModelParameters
from chatnest.providers.openai_chat.provider import OpenAIProvider
from chatnest.providers.openai_responses.parameters import ResponsesParameters
from chatnest.providers.openai_responses.provider import OpenAIResponsesProvider

__all__ = [
    "AnthropicProvider",
    "DemoProvider",
    "ModelParameters",
    "OfferingStream",
    "OpenAIProvider",
    "OpenAIResponsesProvider",
    "Provider",
    "ProviderStream",
    "ResponsesParameters",
    "ServerSettings",
    "Taker",
]
