"""Event loops: scheduling a call from another thread, a signal handler or a callback."""

from collections.abc import Callable
from typing import Any

from anyio.lowlevel import EventLoopToken, current_token

__all__ = ["call_soon", "is_in_event_loop", "soon_here"]


def call_soon(home: EventLoopToken, act: Callable[..., object], *arguments: object) -> None:
    """Schedule a call in an event loop, from any thread or from a signal handler.

    Raises RuntimeError if the event loop has ended.
    """
    loop: Any = home.native_token  # asyncio's event loop, or trio's token
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    soon(act, *arguments)


def soon_here() -> Callable[..., object]:
    """A function that schedules a call in the next turn of this task's event loop.

    Get it inside a task: a callback of asyncio runs outside of any task and cannot get it.
    """
    loop: Any = current_token().native_token
    soon: Callable[..., object] = getattr(loop, "call_soon", None) or loop.run_sync_soon
    return soon


def is_in_event_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        current_token()
    except RuntimeError:
        return False
    return True
