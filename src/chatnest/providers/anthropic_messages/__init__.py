"""The dialect of Anthropic's Messages API, which several servers imitate."""

from chatnest.providers.anthropic_messages.provider import AnthropicProvider

__all__ = ["AnthropicProvider"]
