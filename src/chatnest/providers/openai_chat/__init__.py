"""The dialect of OpenAI's Chat Completions, which many servers implement."""

from chatnest.providers.openai_chat.provider import OpenAIProvider

__all__ = ["OpenAIProvider"]
