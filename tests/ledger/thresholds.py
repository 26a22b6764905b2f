"""Thresholds: for each, the oracle says when it is reached, and the books must have it once.

That is seen whenever a turn ends, by the turns of the window in which that turn was admitted; and
after a grant or a correction by hand, in each window of its name that was ever looked at.

Once a clock was set back or a zone was changed, nobody can say exactly which days of other zones a
window has: then there are thresholds that must have been reached, and some that may have been.
"""

from collections.abc import Mapping
from datetime import date, timedelta

from chatnest.ledger.base import Limit
from tests.ledger.lives import CrossingKey
from tests.ledger.spent import ENDED, Spent, midnight, turns_of_days, window_of


class Thresholds:
    """``grants`` are those of each account. ``least`` must have been reached, ``most`` may have."""

    def __init__(self, turns: Mapping[str, Spent], grants: Mapping[str, list[int]]) -> None:
        self.turns, self.grants = turns, grants
        self.corrections: list[tuple[str, str, date, int]] = []
        self.looked: dict[tuple[str, str, str], tuple[Limit, int]] = {}
        self.least: set[CrossingKey] = set()
        self.most: set[CrossingKey] = set()
        self.late: set[tuple[str, str, str]] = set()  # days that were looked at after their end

    def look(self, turn: Spent, now: int) -> None:
        """A turn has ended: which thresholds have its windows reached?"""
        for each in turn.limits:
            if each.warn_at:
                self.look_at(each, turn.at, now)

    def look_again(self, name: str, account: str, now: int) -> None:
        """At all windows of a name and an account, each as it was last looked at."""
        for place, (limit, at) in list(self.looked.items()):
            if place[:2] == (name, account):
                self.look_at(limit, at, now)

    def look_at(self, limit: Limit, at: int, now: int) -> None:
        """At the window that ``at`` is in."""
        name, account, amount, by_hand = limit.name, limit.account, limit.amount, 0
        turns = [turn for turn in self.turns.values() if turn.counts_on(name, account)]
        both = turns, turns
        period, number = "ever", ""
        if limit.window == "lifetime":
            amount += sum(self.grants[account])
            number = f"#{len(self.grants[account])}"
        else:
            first, after = window_of(limit, at)
            period = period_of(limit, first)
            both = turns_of_days(turns, limit, first, after - timedelta(1))
            by_hand = self.corrected(limit, first, after)
            if limit.window == "day" and midnight(after, limit.timezone) <= now:
                self.late.add((name, account, period))
        self.looked[name, account, period] = limit, at
        for some, reached in zip(both, (self.least, self.most), strict=True):
            used = by_hand + sum(turn.now[limit.unit] for turn in some if turn.state in ENDED)
            reached |= {
                (name, account, period + number, threshold)
                for threshold in limit.warn_at
                if used > 0 and used * 1_000 >= threshold * amount
            }

    def corrected(self, limit: Limit, first: date, after: date) -> int:
        """The sum of the corrections by hand of some days."""
        return sum(
            amount
            for name, account, day, amount in self.corrections
            if (name, account) == (limit.name, limit.account) and first <= day < after
        )


def period_of(limit: Limit, first: date) -> str:
    """The name of a window, by its first day."""
    if limit.window == "month" and limit.starts == 1:
        return str(first)[:7]
    return f"{first}{ {'day': '', 'week': '/P7D', 'month': '/P1M'}[str(limit.window)] }"
