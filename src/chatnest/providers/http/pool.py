"""LoopTransports: one transport for each event loop, closed with the loop."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from anyio.lowlevel import RunVar

from chatnest.providers.http.bodies import closing
from chatnest.providers.http.transport import Transport

__all__ = ["LoopTransports"]


class LoopTransports:
    """Gives each event loop its own transport, made by ``make`` at its first request."""

    def __init__(self, make: Callable[[], Awaitable[Transport]]) -> None:
        self._make = make
        self._pools: RunVar[_LoopPool | None] = RunVar(f"chatnest_transports_{id(self)}")

    async def get(self) -> Transport:
        """The running event loop's transport."""
        pool = self._pools.get(None)
        if pool is None:
            transport = await self._make()
            pool = self._pools.get(None)  # another request may have been faster
            if pool is None:
                pool = _LoopPool(transport, self._forget)
                self._pools.set(pool)
                await pool.start()
        return pool.transport

    async def aclose(self) -> None:
        """Close the running event loop's transport; ``get`` makes a new one."""
        pool = self._pools.get(None)
        if pool is not None:
            self._pools.set(None)
            await pool.aclose()

    def _forget(self, pool: "_LoopPool") -> None:
        if self._pools.get(None) is pool:
            self._pools.set(None)


class _LoopPool:
    """A transport that closes with its event loop, since a mounted application may get no shutdown.
    Both event loops finish async generators at their end. The pool is then forgotten, because it
    would keep the event loop in memory.
    """

    def __init__(self, transport: Transport, forget: "Callable[[_LoopPool], None]") -> None:
        self.transport = transport
        self._forget = forget
        self._life = self._live()

    async def start(self) -> None:
        await anext(self._life)

    async def aclose(self) -> None:
        await self._life.aclose()

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._forget(self)
            with closing():
                await self.transport.aclose()
