"""Hooks: the operator's async functions for a request that is being read."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

import anyio
import msgspec
from anyio import CancelScope
from starlette.types import Receive, Scope

from chatnest.errors import ClientGone
from chatnest.identity.access import Access
from chatnest.identity.base import Identity
from chatnest.streams.open_streams import Arrival

__all__ = ["EarlyIdentity", "Hooks"]

_log = logging.getLogger("chatnest.app")
_T = TypeVar("_T")


class Hooks(msgspec.Struct):
    """Awaits the hooks of one request, each for at most ``seconds``."""

    receive: Receive
    arrival: Arrival
    seconds: float

    async def watched(self, hook: Awaitable[_T]) -> _T:
        """The result of a hook, after the body. A disconnect cancels the hook and raises
        ClientGone.
        """
        self.arrival.allow_hooks(self.seconds)
        results: list[_T] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_leave_with, self.receive, tasks.cancel_scope)
            try:
                results.append(await hook)
            except Exception as exc:  # noqa: BLE001  # raised below, outside of the group
                failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if not results:
            raise ClientGone
        return results[0]

    async def before_body(self, hook: Awaitable[_T]) -> _T:
        """The result of a hook while the body has not arrived. Its time is not part of the body's.
        A disconnect is not noticed, since the message that reports it comes after the body.
        """
        began = anyio.current_time()
        deadline = self.arrival.scope.deadline
        self.arrival.allow_hooks(self.seconds)
        result = await hook
        self.arrival.expect_body(deadline + anyio.current_time() - began)
        return result


class EarlyIdentity(msgspec.Struct):
    """The identity of a request whose body has not arrived. ``found`` is None until ``find``."""

    access: Access
    scope: Scope
    hooks: Hooks
    found: Identity | None = None

    async def find(self) -> None:
        """Find it. Raises Unauthenticated."""
        self.found = await self.access.identity(self.scope, self.hooks.before_body)


async def _leave_with(receive: Receive, scope: CancelScope) -> None:
    """Cancel ``scope`` when the client disconnects."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception as exc:  # noqa: BLE001  # raised by a middleware or a server: a disconnect
        _log.debug("receive failed: %s", type(exc).__name__)
    scope.cancel()
