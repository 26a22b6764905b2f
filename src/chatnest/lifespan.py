"""Lifespan: how an application with streams and books starts, drains, and ends."""

import logging
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import anyio
from anyio import CancelScope, fail_after, move_on_after
from starlette.types import Receive, Send

from chatnest.accounting.accounts import Accounts
from chatnest.bounds import Bounds
from chatnest.errors import ConfigurationError, LedgerUnavailable, ServerShutdown
from chatnest.ledger.base import Ledger, Limit
from chatnest.providers import Provider
from chatnest.runs import RunLog
from chatnest.stores.reasons import reason_of
from chatnest.streams.open_streams import OpenStreams, at_signal

__all__ = ["Lifetime", "Startable", "fail_startup", "lifespan_of", "serve_lifespan"]

_log = logging.getLogger("chatnest.app")

_FORGET_SECONDS: Final = 1.0
"""Seconds between two looks for runs to forget, in each worker."""


class Lifetime:
    """The parts of an application that have a start or an end, in their order.

    Raises ConfigurationError for a ``drain_at_signal`` that is no time.
    """

    def __init__(
        self,
        *,
        provider: Provider,
        ledger: Ledger,
        accounts: Accounts,
        streams: OpenStreams,
        run_log: RunLog,
        bounds: Bounds,
        drain_at_signal: float | None,
        budgets: tuple[Limit, ...] = (),
    ) -> None:
        if drain_at_signal is not None and not 0 <= drain_at_signal < math.inf:
            raise ConfigurationError("drain_at_signal must be finite and at least 0")
        self.provider: Provider = provider
        self.ledger: Ledger = ledger
        self._accounts = accounts
        self._streams = streams
        self._run_log = run_log
        self._bounds = bounds
        self._drain_at_signal = drain_at_signal
        self._budgets = budgets

    async def ready(self) -> None:
        """Raise LedgerUnavailable unless the ledger answers, or ServerShutdown while draining."""
        self._streams.check()
        try:
            with fail_after(self._bounds.ledger_seconds):
                await self.ledger.check()
        except TimeoutError:
            raise LedgerUnavailable from None
        await self._accounts.outbox.flush()

    async def check_books(self) -> None:
        """Raise ConfigurationError where the ledger can never work with these policies, or
        LedgerUnavailable.
        """
        await self.ledger.check()
        await self._check_zones()

    async def _check_zones(self) -> None:
        if self._budgets:
            await self.ledger.usage(self._budgets)

    async def start(self) -> None:
        """Load what would hold up the first request, and try the ledger. Optional, and done by
        lifespan. Raises ConfigurationError where the ledger can never work; one that is away may
        come back.
        """
        self._streams.reopen()
        await self.provider.counter.warm()
        try:
            await self.ready()
            with fail_after(self._bounds.ledger_seconds):
                await self._check_zones()
        except TimeoutError:
            _log.warning("%r is slow: its time zones were not checked", self.ledger)
        except LedgerUnavailable as exc:
            away = "%r is away: %s. Requests are refused until it is back"
            _log.warning(away, self.ledger, reason_of(exc))
        except ServerShutdown:
            pass  # told to end meanwhile: whoever told it ends it, once it has started

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, let running answers finish for ``seconds``, then end those left
        with an ``error`` event ``server_shutdown``, and wait until everything is settled.
        """
        await self._streams.drain(seconds)

    def when_draining(self, act: Callable[[], object]) -> None:
        """Call ``act`` as soon as a drain begins, in its event loop."""
        self._streams.when_draining.append(act)

    async def aclose(self) -> None:
        """End what runs, settle it, and let go of the provider and the ledger. A host that mounts
        this application calls it when it shuts down; lifespan does it by itself.
        """
        with CancelScope(shield=True):
            await self.drain(0)
            with move_on_after(self._bounds.settle_seconds):
                await self._accounts.outbox.flush(most=sys.maxsize)
            self._accounts.outbox.end()
            await self.provider.aclose()
            await self._run_log.aclose()
            await self.ledger.aclose()

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Meanwhile, settlements that wait for the ledger are written as soon as it is back, and
        runs are forgotten when their time has come, also when no request comes; without it, the
        next request does so. SIGTERM begins a drain, where the constructor was told how long.
        """
        failure: Exception | None = None
        told = anyio.Event()
        async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
            tasks.start_soon(self._accounts.outbox.tend)
            tasks.start_soon(_forget_runs, self._run_log)
            if self._drain_at_signal is not None:
                tasks.start_soon(self._drain_when, told, self._drain_at_signal)
                stack.enter_context(at_signal(told.set))
            try:
                yield
            except Exception as exc:  # noqa: BLE001  # raised below, in no group
                failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _drain_when(self, told: anyio.Event, seconds: float) -> None:
        await told.wait()
        _log.warning("ending: running answers have %g s", seconds)
        await self.drain(seconds)


class Startable(Protocol):
    """An application with a start and an end. A subclass may have more to do in both."""

    async def start(self) -> None:
        """Load the parts and try the ledger."""

    def tended(self) -> AbstractAsyncContextManager[None]:
        """Do the work that no request does."""
        ...

    async def aclose(self) -> None:
        """End the streams and close the parts."""


@asynccontextmanager
async def lifespan_of(application: Startable) -> AsyncIterator[None]:
    """``start``, ``tended`` and ``aclose`` around the lifespan of a host."""
    await application.start()
    try:
        async with application.tended():
            yield
    finally:
        await application.aclose()


async def serve_lifespan(application: Startable, receive: Receive, send: Send) -> None:
    """Answer the ASGI lifespan scope for an application that runs alone."""
    started = False
    try:
        async with lifespan_of(application):
            started = True
            await send({"type": "lifespan.startup.complete"})
            while (await receive())["type"] != "lifespan.shutdown":
                pass
    except Exception as exc:
        if started:
            raise
        await fail_startup(exc, send)
        if not isinstance(exc, ConfigurationError):
            raise
        return
    await send({"type": "lifespan.shutdown.complete"})


async def _forget_runs(log: RunLog) -> None:
    """Remove runs from the log when their time has come. Ends when it is cancelled."""
    while True:
        try:
            await log.forget()
        except LedgerUnavailable:
            pass  # it is tried again, and requests log why
        except Exception:  # noqa: BLE001  # of a log of the operator's
            _log.exception("%r cannot forget runs: they are kept for longer than runs.keep", log)
            return
        await anyio.sleep(_FORGET_SECONDS)


async def fail_startup(failure: Exception, send: Send) -> None:
    """Tell the server to end, and why. What is only raised, uvicorn takes for an application that
    has no lifespan: it serves it.
    """
    said = str(failure) if isinstance(failure, ConfigurationError) else repr(failure)
    _log.error("the application cannot start: %s", said)  # which not every server tells
    await send({"type": "lifespan.startup.failed", "message": said})
