"""The `response` object of OpenAI's Responses API, from its creation to its end. No I/O."""

from typing import Any

from chatnest.testing.upstream.parts import TokenUsage

__all__ = ["created", "ended", "usage_object"]

_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def created(request: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    """Return a response at its start: `head`, and the fields of the request that it repeats."""
    return {
        **head,
        "object": "response",
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
        **{name: request.get(name, default) for name, default in _ECHOED.items()},
    }


def ended(reason: str) -> dict[str, Any]:
    """Return the fields of a response that ends for `reason`. Its `status` is also its event."""
    if reason in {"stop", "tool_calls", "refusal"}:
        return {"status": "completed"}
    details = {"reason": _INCOMPLETE.get(reason, reason)}
    return {"status": "incomplete", "incomplete_details": details}


def usage_object(usage: TokenUsage) -> dict[str, Any]:
    """Return the usage of a response."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_written,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
