"""``chatnest top``: the running answers of all workers, and how to stop one."""

import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from chatnest.amounts import amount_text
from chatnest.cli.books import run_on_ledger
from chatnest.cli.output import write_documents, write_table
from chatnest.cli.screen import Screen
from chatnest.config.sections import Config
from chatnest.ledger.audit import Audit, LiveHold
from chatnest.ledger.base import Ledger
from chatnest.live import LOOK_SECONDS, Board, LiveTurn, Receipt
from chatnest.runs.base import RunSettings
from chatnest.runs.place import beside

__all__ = ["Row", "run"]

_FAILED: Final = 1
_SILENT: Final = 3
"""Exit codes. 1: there is nothing to stop, or the ledger is unavailable. 3: the answer's worker
does not respond.
"""

_ONCE_SECONDS: Final = 3 * LOOK_SECONDS
"""Maximum seconds to wait for the workers' states."""

_STOP_SECONDS: Final = 15.0
"""Maximum seconds to wait for a receipt."""

_POLL_SECONDS: Final = 0.1
_DRAW_SECONDS: Final = 1.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A running answer: its hold in the ledger, and the state that its worker reports, if any."""

    hold: LiveHold
    state: LiveTurn | None
    seconds: float

    @property
    def who(self) -> str:
        """The principal, or an account of the hold if the worker reports no state."""
        if self.state is not None:
            return self.state.principal
        return self.hold.lines[0].key.split(":", 2)[2] if self.hold.lines else "?"

    def cells(self) -> list[str]:
        """The cells of the table."""
        state, hold = self.state, self.hold
        seen = ["?"] * 3 if state is None else [state.model, state.profile, f"{self._tokens:,}"]
        held = [f"{hold.tokens:,}", amount_text(hold.money) if hold.money else "-"]
        return [hold.id, self.who, *seen[:2], f"{self.seconds:.0f}", seen[2], *held]

    def document(self) -> dict[str, Any]:
        """The row as a JSON object. Money is in nano-dollars."""
        state = {} if self.state is None else msgspec.to_builtins(self.state)
        return {
            **state,
            "id": self.hold.id,
            "principal": self.who,
            "seconds": round(self.seconds, 1),
            "held_tokens": self.hold.tokens,
            "held_money": self.hold.money,
        }

    @property
    def _tokens(self) -> int:
        return 0 if self.state is None else self.state.output_tokens


HEAD: Final = ("id", "who", "model", "profile", "seconds", "tokens", "held", "money held")


def run(options: Namespace) -> None:
    """Show the running answers, or stop one, and exit. Raises ConfigurationError."""
    run_on_ledger(options, partial(_run, options), unavailable=_FAILED)


async def _run(options: Namespace, ledger: Ledger, audit: Audit, _config: Config) -> int:
    log = beside(ledger, RunSettings())
    place = getattr(ledger, "path", None)
    top = Top(audit, Board(log), None if place is None else Path(f"{place}-runs"))
    try:
        if options.action == "stop":
            return await _stop(top, options)
        if options.once or options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _write(await top.rows_once(), as_json=options.json)
            return 0
        return await _watch(top)
    finally:
        await log.aclose()


class Top:
    """The running answers, as the ledger and the workers report them.

    ``file`` is the file of the runs, or None if they are in a Redis. A server creates the file for
    its first answer. This process must not create it, since the server may run as another user.
    """

    def __init__(self, audit: Audit, board: Board, file: Path | None) -> None:
        self._audit = audit
        self._board = board
        self._file = file

    @property
    def _is_open(self) -> bool:
        return self._file is None or self._file.exists()

    async def rows(self) -> list[Row]:
        """The running answers, oldest first."""
        holds, now = await self._audit.holds(), await self._audit.now()
        return [
            Row(
                hold=hold,
                state=await self._board.shown(hold.id) if self._is_open else None,
                seconds=max(0, now - hold.admitted_at) / 1000,
            )
            for hold in holds
        ]

    async def watch(self) -> None:
        """Ask the workers for their states."""
        if self._is_open:
            await self._board.wish(watch=True)

    async def rows_once(self) -> list[Row]:
        """The running answers, once all workers have reported them or had enough time to."""
        await self.watch()
        until = anyio.current_time() + _ONCE_SECONDS
        while True:
            rows = await self.rows()
            if all(row.state is not None for row in rows) or anyio.current_time() > until:
                return rows
            await anyio.sleep(_POLL_SECONDS)

    async def stop(self, turn_id: str) -> Receipt | None:
        """Stop an answer, and return its receipt, or None if there is no such answer. Raises
        TimeoutError if its worker does not respond.
        """
        with anyio.fail_after(_STOP_SECONDS):
            while True:
                if (receipt := await self._receipt(turn_id)) is not None:
                    return receipt
                if all(hold.id != turn_id for hold in await self._audit.holds()):
                    await anyio.sleep(2 * _POLL_SECONDS)  # the receipt follows the settlement
                    return await self._receipt(turn_id)
                if self._is_open and turn_id not in (await self._board.wishes()).stop:
                    await self._board.wish(stop=[turn_id])
                await anyio.sleep(_POLL_SECONDS)

    async def _receipt(self, turn_id: str) -> Receipt | None:
        return await self._board.receipt(turn_id) if self._is_open else None


def shown_receipt(receipt: Receipt) -> str:
    """A receipt as a line."""
    money = f" and {amount_text(receipt.money)} of money" if receipt.money else ""
    return (
        f"stopped {receipt.id}: {receipt.outcome}, charged {receipt.charged:,} tokens{money} "
        f"({receipt.source})"
    )


async def _stop(top: Top, options: Namespace) -> int:
    try:
        receipt = await top.stop(options.id)
    except TimeoutError:
        sys.stderr.write(
            f"the worker of {options.id} does not answer. When its lease has expired, the answer "
            "is charged what it holds.\n"
        )
        return _SILENT
    if receipt is None:
        sys.stderr.write(f"no running answer has the id {options.id!r}. It may have ended.\n")
        return _FAILED
    text = msgspec.json.encode(receipt).decode() if options.json else shown_receipt(receipt)
    sys.stdout.write(f"{text}\n")
    return 0


def _write(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        write_documents(row.document() for row in rows)
    elif rows:
        write_table(HEAD, [row.cells() for row in rows])
    else:
        sys.stdout.write("no running answers\n")


async def _watch(top: Top) -> int:
    """Draw the table again and again, until a key ends it. The receipts stay on the terminal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # which leaves the screen as it was
    notes: list[str] = []
    try:
        with Screen(HEAD) as screen:
            while await _drawn(top, screen, notes):
                pass
    finally:
        sys.stdout.write("".join(f"{note}\n" for note in notes))
    return 0


async def _drawn(top: Top, screen: Screen, notes: list[str]) -> bool:
    """Draw the table, and follow keys for a second. Returns False to end."""
    await top.watch()
    rows = [row.cells() for row in await top.rows()]
    screen.draw(rows, *notes[-1:])
    with anyio.move_on_after(_DRAW_SECONDS):
        while (key := await screen.key()) != "q":
            if key == "s" and (chosen := screen.chosen) is not None:
                screen.redraw(f"stopping {chosen}")
                notes.append(await _stopped(top, chosen))
                return True
            screen.redraw(*notes[-1:])
        return False
    return True


async def _stopped(top: Top, turn_id: str) -> str:
    with anyio.CancelScope(shield=True):
        try:
            receipt = await top.stop(turn_id)
        except TimeoutError:
            return f"the worker of {turn_id} does not answer"
    return f"{turn_id} has ended" if receipt is None else shown_receipt(receipt)
