"""Event loops, as other threads and signal handlers reach them."""

from collections.abc import Callable
from typing import Any

from anyio.lowlevel import EventLoopToken, current_token

__all__ = ["call_soon", "is_in_event_loop", "soon_here"]


def call_soon(home: EventLoopToken, act: Callable[..., object], *arguments: object) -> None:
    """Have an event loop do it next, from any thread, or from a signal's handler. Raises
    RuntimeError if it has ended.
    """
    loop: Any = home.native_token  # asyncio's event loop, or trio's token
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    soon(act, *arguments)


def soon_here() -> Callable[..., object]:
    """How to call something in the next turn of this task's event loop. A callback of asyncio's is
    in no task, so it cannot ask.
    """
    loop: Any = current_token().native_token
    soon: Callable[..., object] = getattr(loop, "call_soon", None) or loop.run_sync_soon
    return soon


def is_in_event_loop() -> bool:
    """Whether one runs in this thread."""
    try:
        current_token()
    except RuntimeError:
        return False
    return True
