"""All that is measured, by name and in this order."""

from tests.benchmarks.bench import Workload
from tests.benchmarks.costs import COSTS
from tests.benchmarks.first import First
from tests.benchmarks.idle import Idle
from tests.benchmarks.refused import Refused
from tests.benchmarks.wide import Wide

__all__ = ["WORKLOADS"]

WORKLOADS: dict[str, Workload] = {
    each.name: each for each in (*COSTS, First(), Refused(), Idle(), Wide())
}
