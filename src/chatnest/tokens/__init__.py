"""Tokens: counted offline, with ranks that ship in the package."""

from chatnest.tokens.base import TokenCounter
from chatnest.tokens.tokenizer import Tokenizer

__all__ = ["TokenCounter", "Tokenizer"]
