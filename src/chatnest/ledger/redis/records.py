"""Records in Redis: entries of streams, and the ones that are the final cost of a hold. No I/O."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from chatnest.ledger.audit import Adjustment, TurnRecord
from chatnest.ledger.redis.keys import lines_of

__all__ = ["Entry", "counted", "read_entry", "records_of", "standing"]

_read_keys = msgspec.json.Decoder(tuple[str, ...]).decode


class Entry(msgspec.Struct, frozen=True):
    """An entry of an account's stream. ``at`` is its id: milliseconds and a sequence number."""

    account: str
    at: tuple[int, int]
    fields: dict[str, str]
    lines: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, tuple[int, int]]:
        """The entry of the highest rank counts: a settlement or a release corrects an expiry."""
        return self.fields["outcome"] != "expired", (int(self.fields["settled_at"]), self.at[1])

    @property
    def is_adjustment(self) -> bool:
        return "reason" in self.fields

    @property
    def is_added(self) -> bool:
        """Whether the books had forgotten the hold: the entry corrects no earlier one."""
        return not self.fields["admitted_at"]


def read_entry(account: str, name: str, fields: list[str]) -> Entry:
    """An entry from the server's answer: its id, names and values."""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    lines = named.pop("lines")
    if lines.startswith("["):
        keys = _read_keys(lines)
    else:
        found = lines_of(lines.split(), account)
        keys = tuple(line.key for line in found if line.serial < 0)
    milliseconds, _, number = name.partition("-")
    return Entry(account, (int(milliseconds), int(number)), named, keys)


def standing(entries: Iterable[Entry]) -> tuple[list[TurnRecord], list[Adjustment]]:
    """The final costs of holds, and the adjustments.

    A hold over several accounts may have ended differently in each of them; then it has a record
    for each end. A released hold has no cost and no record.
    """
    best: dict[tuple[str, str], Entry] = {}
    lines: defaultdict[int, list[str]] = defaultdict(list)
    turns, adjustments = [], []
    for entry in entries:
        if entry.is_adjustment:
            adjustments.append(_adjustment(entry))
        elif entry.is_added:
            turns.append(_turn(entry.fields, entry.lines))
        else:
            for line in entry.lines or ("",):
                place = entry.fields["hold"], line
                if place not in best or best[place].rank < entry.rank:
                    best[place] = entry
    for (_, line), entry in best.items():
        lines[id(entry)].extend([line] if line else [])
    ends = {id(entry): entry for entry in best.values()}
    turns.extend(
        _turn(entry.fields, lines[place])
        for place, entry in ends.items()
        if entry.fields["outcome"] != "released"
    )
    return turns, adjustments


def counted(entries: Iterable[Entry]) -> list[TurnRecord]:
    """The final costs of holds that are counted as usage: each once, however many accounts it was
    charged to.
    """
    best: dict[str, Entry] = {}
    turns = []
    for entry in entries:
        if entry.fields.get("counted") != "1":
            continue
        hold_id = entry.fields["hold"]
        if entry.is_added:
            turns.append(_turn(entry.fields, entry.lines))
        elif hold_id not in best or best[hold_id].rank < entry.rank:
            best[hold_id] = entry
    turns.extend(
        _turn(entry.fields, entry.lines)
        for entry in best.values()
        if entry.fields["outcome"] != "released"
    )
    return turns


def records_of(entries: Iterable[Entry]) -> list[TurnRecord | Adjustment]:
    """The same, oldest first. Equal costs of a hold in several accounts are one record."""
    turns, adjustments = standing(entries)
    merged: dict[object, TurnRecord] = {}
    for turn in turns:
        place = (turn.id, turn.outcome, turn.tokens, turn.admitted_at is None)
        known = merged.get(place, turn)
        merged[place] = msgspec.structs.replace(
            known, lines=tuple(dict.fromkeys((*known.lines, *turn.lines)))
        )
    records: list[TurnRecord | Adjustment] = [*merged.values(), *adjustments]
    return sorted(records, key=lambda r: r.at if isinstance(r, Adjustment) else r.settled_at)


def _turn(fields: dict[str, str], lines: Iterable[str]) -> TurnRecord:
    values: dict[str, Any] = {key: text for key, text in fields.items() if key != "counted"}
    if "facts" in values:
        values["facts"] = msgspec.json.decode(values["facts"])
    values["id"] = values.pop("hold")
    values["admitted_at"] = values["admitted_at"] or None
    # Not strict: all values of a stream are strings.
    return msgspec.convert({**values, "lines": tuple(lines)}, TurnRecord, strict=False)


def _adjustment(entry: Entry) -> Adjustment:
    (key,) = entry.lines
    name, day, _ = key.split(":", 2)
    return Adjustment(
        id=entry.fields["hold"],
        account=entry.account,
        name=name,
        day=day,
        amount=int(entry.fields["tokens"]),
        reason=entry.fields["reason"],
        at=int(entry.fields["settled_at"]),
    )
