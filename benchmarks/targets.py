"""Targets: what the figures of chatnest have to be, beside others' or alone. No I/O."""

from dataclasses import dataclass

from benchmarks.figures import Figures

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """``bound`` is the most of a ratio or a figure, or the least; ``aim`` what is hoped for."""

    workload: str
    metric: str
    bound: float
    against: str = ""
    aim: float | None = None
    least: bool = False
    unit: str = ""

    def figure(self, figures: Figures) -> float | None:
        if self.against:
            return figures.ratio(self.workload, "chatnest", self.against, self.metric)
        return figures.median(self.workload, "chatnest", self.metric)

    def met(self, figure: float) -> bool:
        return figure >= self.bound if self.least else figure <= self.bound

    def text(self) -> str:
        limit = f"at {'least' if self.least else 'most'} {_short(self.bound)}{self.unit}"
        return limit if self.aim is None else f"{limit}, aim {_short(self.aim)}{self.unit}"

    def title(self) -> str:
        subject = f"chatnest / {self.against}" if self.against else "chatnest"
        return f"{self.workload} {self.metric}: {subject}"

    def verdict(self, figures: Figures) -> str:
        """A figure and whether it will do, or that there is none."""
        figure = self.figure(figures)
        if figure is None:
            return "not measured"
        said = "met" if self.met(figure) else "NOT MET"
        if self.aim is not None and figure <= self.aim:
            said = "met, and the aim"
        return f"{_short(figure)}{self.unit}: {said}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


TARGETS = (
    Target("paced", "us", 3.0, "nginx", aim=2.2),
    Target("paced", "us", 0.15, "fastapi"),
    Target("paced", "us", 0.45, "express"),
    Target("burst", "us", 3.0, "nginx", aim=2.0),
    Target("burst", "us", 0.05, "fastapi"),
    Target("burst", "us", 0.35, "express"),
    Target("keyed", "ratio", 1.10),
    Target("formats", "openai_chat_paced", 1.15),
    Target("formats", "openai_chat_burst", 1.15),
    Target("formats", "ai_sdk_paced", 1.15),
    Target("formats", "ai_sdk_burst", 1.15),
    Target("formats", "ag_ui_paced", 1.15),
    Target("formats", "ag_ui_burst", 1.15),
    Target("formats", "openai_responses_paced", 1.15),
    Target("formats", "openai_responses_burst", 1.4),
    Target("formats", "whole_short", 1.3),
    Target("short", "us", 0.50, "fastapi", aim=0.35),
    Target("short", "us", 0.80, "express", aim=0.5),
    Target("idle", "kib", 0.5, "express"),
    Target("idle", "kib", 40.0, unit=" KiB"),
    Target("first", "ms", 5.0, unit=" ms"),
    Target("first", "ms", 1.0, "fastapi"),
    Target("first", "ms", 1.0, "express"),
    Target("rush", "ms", 1.0, "express"),
    Target("wide", "lost", 0.0),
    Target("wide", "open", 5_000.0, least=True),
    Target("wide", "ping_ms", 100.0, unit=" ms"),
    Target("refused", "per_second", 5_000.0, least=True),
)
