"""KnownRuns: the runs that are generated on this event loop, and all others by their log."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import msgspec
from anyio import CancelScope
from anyio.lowlevel import RunVar

from chatnest._util.deadlines import within
from chatnest.errors import LedgerUnavailable, NotFound
from chatnest.runs.base import Claim, Page, RunLog
from chatnest.runs.run import Run
from chatnest.streams.generation import Generation

__all__ = ["LEASE", "HostedRun", "KnownRuns"]

_T = TypeVar("_T")

LEASE: Final = 6.0
"""Seconds without a sign of life after which a worker counts as dead."""


class HostedRun(msgspec.Struct, frozen=True):
    """A run and the generation that writes it, on this event loop."""

    run: Run
    generation: Generation


class KnownRuns:
    """Finds runs. An operation of the log takes at most ``log_seconds``."""

    def __init__(self, log: RunLog, log_seconds: float) -> None:
        self.log = log
        self._log_seconds = log_seconds
        self._here: RunVar[dict[str, HostedRun]] = RunVar(f"chatnest_runs_{id(self)}")

    @property
    def here(self) -> dict[str, HostedRun]:
        """The runs of this event loop, by id."""
        try:
            return self._here.get()
        except LookupError:
            runs: dict[str, HostedRun] = {}
            self._here.set(runs)
            return runs

    async def ask(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """The result of an operation of the log. Raises LedgerUnavailable if it takes too long."""
        with within(self._log_seconds):
            return await operation()

    async def claim(self, key: str | None, *, owner: str, fingerprint: str, run_id: str) -> Claim:
        """Claim a key for a run. If that fails, no key leads to a run without a generation."""
        try:
            return await self.ask(
                partial(
                    self.log.claim,
                    key,
                    owner=owner,
                    fingerprint=fingerprint,
                    run_id=run_id,
                    lease=LEASE,
                )
            )
        except BaseException:
            with CancelScope(shield=True), suppress(LedgerUnavailable):
                await self.ask(partial(self.log.drop, run_id))
            raise

    async def owned(self, run_id: str, owner: str, after: int) -> Page:
        """The page of a run. Raises NotFound if there is none, or if the run is not ``owner``'s."""
        page = await self.page(run_id, owner, after)
        if page is None or page.refused:
            raise NotFound
        return page

    async def has_ended(self, run_id: str, owner: str) -> bool:
        """Whether a run has ended, and was not refused."""
        hosted = self.here.get(run_id)
        if hosted is not None and hosted.run.end is None:
            return False
        page = await self.page(run_id, owner, 1 << 62)
        return page is not None and not page.refused and (page.end is not None or page.lost)

    async def page(self, run_id: str, owner: str, after: int) -> Page | None:
        """The events of a run in the log, after a number. A run of this event loop that the log has
        lost has an empty page.
        """
        page = await self.ask(partial(self.log.read, run_id, after, owner=owner))
        hosted = self.here.get(run_id)
        if page is None and hosted is not None and hosted.run.owner == owner:
            return Page(dropped=hosted.run.dropped, last=hosted.run.last)
        return page

    async def page_of_cancelled(self, run_id: str, owner: str, page: Page) -> Page:
        """The page of a run that is being cancelled. A log that has lost the run has lost the
        cancellation as well.
        """
        found = await self.page(run_id, owner, 1 << 62)
        if found is None:
            await self.ask(partial(self.log.cancel, run_id))
        return found if found is not None else page
