"""Bench: what every measurement is given, and what each of them says about itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.servers import Server, Setting
from benchmarks.upstream import Upstream

__all__ = ["Bench", "Workload"]


@dataclass(frozen=True)
class Bench:
    upstream: Upstream
    folder: Path
    quick: bool


class Workload(Protocol):
    """``fresh`` ones have a server of their own, ``long`` ones are not tried again. ``servers`` are
    those that it is for; all, if there are none.
    """

    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def fresh(self) -> bool: ...
    @property
    def long(self) -> bool: ...
    @property
    def setting(self) -> Setting: ...
    @property
    def servers(self) -> tuple[str, ...]: ...

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        """Metrics and what was measured."""
        ...
