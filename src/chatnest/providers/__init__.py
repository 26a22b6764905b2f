"""Providers: where answers come from. A file each."""

from chatnest.providers.base import Provider
from chatnest.providers.demo import DemoProvider
from chatnest.providers.network import ServerSettings
from chatnest.providers.openai import OpenAIProvider
from chatnest.providers.parameters import ModelParameters

__all__ = ["DemoProvider", "ModelParameters", "OpenAIProvider", "Provider", "ServerSettings"]
