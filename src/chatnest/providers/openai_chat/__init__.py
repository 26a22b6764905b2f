"""The dialect of OpenAI's Chat Completions, as many servers speak it."""

from chatnest.providers.openai_chat.provider import OpenAIProvider

__all__ = ["OpenAIProvider"]
