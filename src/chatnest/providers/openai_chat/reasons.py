"""The reasons for which a model stopped, in OpenAI's words. No I/O."""

from typing import Final

__all__ = ["CUT", "reason_of"]

_LONGEST: Final = 32
"""Maximum characters of a finish reason."""

_NONE: Final = ("null", "none")
"""Finish reasons of servers that send a string before there is a reason."""

CUT: Final = "length"
"""The reason of an answer that was cut for its length."""

_WORDS: Final = {
    **dict.fromkeys(
        ("complete", "completed", "end_turn", "eos", "eos_token", "stop_sequence"), "stop"
    ),
    **dict.fromkeys(("max_length", "max_output_tokens", "max_tokens", "model_length"), CUT),
    **dict.fromkeys(("function_call", "tool_call", "tool_use"), "tool_calls"),
}
"""The words of other servers. A word that is missing here is passed on."""

_KNOWN: Final = ("stop", "length", "content_filter", "tool_calls")


def reason_of(word: str, *, called: bool) -> str:
    """The finish reason that a server's word stands for, or empty if it stands for none.

    Google, Ollama and others say ``stop`` after a tool call.
    """
    plain = word.strip().lower()
    if plain in _NONE:
        return ""
    reason = _WORDS.get(plain, plain if plain in _KNOWN else word[:_LONGEST])
    return "tool_calls" if called and reason == "stop" else reason
