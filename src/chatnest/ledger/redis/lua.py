"""The texts of a RedisLedger's Lua scripts, each put together from files in ``scripts/``."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

__all__ = ["texts"]

_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "reserve": ("mark", "watch", "common", "limits", "reserve"),
    "usage": ("mark", "watch", "common", "limits", "usage"),
    "settle": ("mark", "watch", "common", "settle"),
    "release": ("mark", "watch", "common", "release"),
    "renew": ("mark", "watch", "common", "renew"),
    "adjust": ("mark", "watch", "common", "adjust"),
    "next": ("mark", "next"),
    "delivered": ("mark", "delivered"),
    "turn": ("mark", "turn"),
    "check": ("mark", "check"),
    "zone": ("mark", "zone"),
    "enrol": ("mark", "enrol"),
    "learn": ("learn",),
    "remark": ("remark",),
    "put": ("put",),
    "look": ("look",),
    "page": ("page",),
    "own": ("mark", "own"),
    "rows": ("rows",),
    "refuse": ("mark", "refuse"),
    "currency": ("mark", "currency"),
}
"""Script → the files that it consists of, in order."""


def texts() -> dict[str, str]:
    """The text of each script by its name."""
    folder = files("chatnest.ledger.redis") / "scripts"
    return {
        name: "\n".join(folder.joinpath(f"{part}.lua").read_text() for part in parts)
        for name, parts in _PARTS.items()
    }
