"""The dialect of OpenAI's Responses API, which newer models and local servers speak."""

from chatnest.providers.openai_responses.provider import OpenAIResponsesProvider

__all__ = ["OpenAIResponsesProvider"]
