"""Lifespan: how an application with streams and a ledger starts, drains and closes."""

import logging
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import anyio
from anyio import CancelScope, fail_after, move_on_after
from starlette.types import Receive, Send

from chatnest._util.deadlines import within
from chatnest.accounting.accounts import Accounts
from chatnest.alerts.deliveries import Deliveries
from chatnest.bounds import Bounds
from chatnest.errors import ConfigurationError, LedgerUnavailable, ServerShutdown
from chatnest.ledger.base import Ledger, Limit
from chatnest.live import LiveAnswers
from chatnest.models import Catalogue
from chatnest.runs import RunLog
from chatnest.stores.reasons import reason_of
from chatnest.streams.open_streams import OpenStreams, at_signal
from chatnest.telemetry.metrics import Metrics
from chatnest.telemetry.observers import Observers

__all__ = ["Lifetime", "Startable", "fail_startup", "lifespan_of", "serve_lifespan"]

_log = logging.getLogger("chatnest.app")

_FORGET_SECONDS: Final = 1.0
"""Seconds between two searches for expired runs, in each worker."""


_GAUGE_SECONDS: Final = 10.0
"""Seconds between two looks at the limits for the metrics, in each worker."""


class Lifetime:
    """Starts, drains and closes the parts of an application in order.

    Raises ConfigurationError if ``drain_at_signal`` is not a number of seconds.
    """

    def __init__(
        self,
        *,
        models: Catalogue,
        ledger: Ledger,
        accounts: Accounts,
        streams: OpenStreams,
        run_log: RunLog,
        bounds: Bounds,
        observers: Observers,
        live: LiveAnswers,
        drain_at_signal: float | None,
        deliveries: Deliveries,
        budgets: tuple[Limit, ...] = (),
    ) -> None:
        if drain_at_signal is not None and not 0 <= drain_at_signal < math.inf:
            raise ConfigurationError(
                "drain_at_signal: expected a finite number of seconds >= 0, "
                f"got {drain_at_signal!r}."
            )
        self.models: Catalogue = models
        self.ledger: Ledger = ledger
        self._accounts = accounts
        self._streams = streams
        self._run_log = run_log
        self._bounds = bounds
        self._observers = observers
        self._live = live
        self._drain_at_signal = drain_at_signal
        self._deliveries = deliveries
        self._budgets = budgets
        self.metrics: Metrics | None = None
        """The metrics, whose gauges are read from time to time."""

    async def ready(self) -> None:
        """Raise LedgerUnavailable unless the ledger answers, or ServerShutdown while draining."""
        self._streams.check()
        with within(self._bounds.ledger_seconds):
            await self.ledger.check()
        await self._accounts.outbox.flush()

    async def check_books(self) -> None:
        """Raise ConfigurationError if the ledger can never work with these policies, or
        LedgerUnavailable if it does not answer.
        """
        await self.ledger.check()
        await self._check_zones()

    async def _check_zones(self) -> None:
        await self._accounts.keep_currency()
        if self._budgets:
            await self.ledger.usage(self._budgets)

    async def start(self) -> None:
        """Load the token counters and try the ledger, so that the first request need not wait.
        Optional; the ASGI lifespan calls it. Raises ConfigurationError if the ledger can never
        work. A ledger that is only unavailable is logged: it may come back.
        """
        self._streams.reopen()
        for candidate in self.models.candidates:
            await candidate.counter.warm()
        try:
            await self.ready()
            with fail_after(self._bounds.ledger_seconds):
                await self._check_zones()
        except TimeoutError:
            _log.warning("%r is slow: its time zones were not checked", self.ledger)
        except LedgerUnavailable as exc:
            unavailable = "%r is unavailable: %s. Requests are refused until it is back"
            _log.warning(unavailable, self.ledger, reason_of(exc))
        except ServerShutdown:
            pass  # a shutdown began during the start; the server continues it afterwards

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, and let running answers finish for ``seconds``. Then end the
        remaining ones with an ``error`` event ``server_shutdown``, and wait until every turn is
        settled.
        """
        await self._streams.drain(seconds)

    def when_draining(self, act: Callable[[], object]) -> None:
        """Call ``act`` as soon as a drain begins, in its event loop."""
        self._streams.when_draining.append(act)

    async def aclose(self) -> None:
        """End and settle running answers, then close the providers and the ledger. The ASGI
        lifespan calls it. A host without lifespan events must call it when it shuts down.
        """
        with CancelScope(shield=True):
            await self.drain(0)
            with move_on_after(self._bounds.settle_seconds):
                await self._accounts.outbox.flush(most=sys.maxsize)
                await self._accounts.refusals.flush()
            self._accounts.outbox.end()
            await self._observers.aclose()
            async with AsyncExitStack() as stack:  # closes all, even if one of them fails
                stack.push_async_callback(self.ledger.aclose)
                stack.push_async_callback(self._run_log.aclose)
                for provider in reversed(self.models.providers):
                    stack.push_async_callback(provider.aclose)

    async def _tend_metrics(self, metrics: Metrics) -> None:
        """Read the gauges every few seconds, until cancelled."""
        outbox = self._accounts.outbox
        while True:
            now = self.ledger.now()
            metrics.note(waiting=len(outbox), now=now)
            await anyio.sleep(_GAUGE_SECONDS)
            try:
                with within(self._bounds.ledger_seconds):
                    await self.ledger.check()
                    metrics.read(await self.ledger.usage(metrics.fullest(now)))
                metrics.found(up=True)
            except LedgerUnavailable:
                metrics.found(up=False)
            except Exception:  # noqa: BLE001  # a custom ledger may raise anything
                _log.exception("%r cannot read its limits for the metrics", self.ledger)
                return

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Within this block, do the background work: write settlements as soon as the ledger is
        back, and remove expired runs. Outside of it, the next request does both. Warnings of
        budgets are delivered within it alone. Running answers are shown to operators, and stopped
        by them. SIGTERM begins a drain if ``drain_at_signal`` is set.
        """
        failure: Exception | None = None
        signalled = anyio.Event()
        async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
            tasks.start_soon(self._accounts.outbox.tend)
            tasks.start_soon(self._accounts.refusals.tend)
            tasks.start_soon(_forget_runs, self._run_log)
            tasks.start_soon(self._deliveries.tend)
            tasks.start_soon(self._live.tend)
            if self.metrics is not None:
                tasks.start_soon(self._tend_metrics, self.metrics)
            if self._drain_at_signal is not None:
                tasks.start_soon(self._drain_when, signalled, self._drain_at_signal)
                stack.enter_context(at_signal(signalled.set))
            try:
                yield
            except Exception as exc:  # noqa: BLE001  # raised below, outside of the task group
                failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _drain_when(self, signalled: anyio.Event, seconds: float) -> None:
        await signalled.wait()
        _log.warning("drain started: seconds=%g. New requests are refused.", seconds)
        await self.drain(seconds)


class Startable(Protocol):
    """An application with a start and an end. A subclass may extend both."""

    async def start(self) -> None:
        """Load the parts and try the ledger."""

    def tended(self) -> AbstractAsyncContextManager[None]:
        """Do the background work within this block."""
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
    """Remove expired runs from the log, until cancelled."""
    while True:
        try:
            await log.forget()
        except LedgerUnavailable:
            pass  # the next round tries again, and requests log the reason
        except Exception:  # noqa: BLE001  # a custom log may raise anything
            _log.exception("%r cannot remove runs: they are kept longer than runs.keep", log)
            return
        await anyio.sleep(_FORGET_SECONDS)


async def fail_startup(failure: Exception, send: Send) -> None:
    """Report a failed startup to the server, so that it ends.

    Raising is not enough: uvicorn takes it for an application without lifespan, and serves it.
    """
    message = str(failure) if isinstance(failure, ConfigurationError) else repr(failure)
    _log.error("the application cannot start: %s", message)  # not every server logs the message
    await send({"type": "lifespan.startup.failed", "message": message})
