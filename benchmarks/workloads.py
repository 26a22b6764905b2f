"""All that is measured, by name and in this order."""

from benchmarks.bench import Workload
from benchmarks.costs import COSTS
from benchmarks.first import First
from benchmarks.formats import InFormats
from benchmarks.idle import Idle
from benchmarks.keyed import Keyed
from benchmarks.refused import Refused
from benchmarks.rush import Rush
from benchmarks.wide import Wide

__all__ = ["WORKLOADS"]

_OTHERS = (Keyed(), InFormats(), First(), Rush(), Refused(), Idle(), Wide())
WORKLOADS: dict[str, Workload] = {each.name: each for each in (*COSTS, *_OTHERS)}
