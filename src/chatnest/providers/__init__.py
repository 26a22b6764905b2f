"""Providers: where answers come from. A file each."""

from chatnest.providers.base import Provider
from chatnest.providers.demo import DemoProvider
from chatnest.providers.openai import OpenAIProvider

__all__ = ["DemoProvider", "OpenAIProvider", "Provider"]
