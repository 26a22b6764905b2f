"""A chart of the costs as SVG, with a ground of its own, so that it reads on any page. No I/O."""

from collections.abc import Iterator

from benchmarks.figures import Figures
from benchmarks.report import COSTS, number

__all__ = ["chart"]

_WIDTH, _ROW, _BAR, _TOP, _LEFT, _RIGHT = 760, 24, 14, 44, 150, 90
_STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de } text { font: 13px sans-serif; fill: #1f2328 }
  .title { font-weight: bold } .bar { fill: #8c959f } .ours { fill: #0969da }
  .spread { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d } text { fill: #f0f6fc }
    .bar { fill: #656c76 } .ours { fill: #4493f8 } .spread { stroke: #f0f6fc }
  }
"""


def chart(figures: Figures) -> str:
    """Bars of medians, from little to much, with a line from the least to the most round."""
    body: list[str] = []
    y = 0
    for workload, unit in COSTS:
        if figures.servers(workload):
            y += _TOP
            body.append(
                f'<text class="title" x="16" y="{y - 14}">{workload}: '
                f"microseconds of CPU for a {unit}</text>"
            )
            body += _bars(figures, workload, y)
            y += _ROW * len(figures.servers(workload))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 16}" '
        f'viewBox="0 0 {_WIDTH} {y + 16}" role="img" '
        'aria-label="What a token and a request cost, by server">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{y + 15}" rx="6"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _bars(figures: Figures, workload: str, y: int) -> Iterator[str]:
    found = {s: figures.median(workload, s, "us") or 0.0 for s in figures.servers(workload)}
    most = max(figures.spread(workload, server, "us")[1] for server in found)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    for server, median in sorted(found.items(), key=lambda pair: pair[1]):
        low, high = figures.spread(workload, server, "us")
        kind = "bar ours" if server.startswith("chatnest") else "bar"
        middle = y + _BAR / 2
        yield (
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{server}</text>'
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{max(1, median * scale):.1f}" '
            f'height="{_BAR}"/>'
            f'<line class="spread" x1="{_LEFT + low * scale:.1f}" y1="{middle}" '
            f'x2="{_LEFT + high * scale:.1f}" y2="{middle}"/>'
            f'<text x="{_LEFT + high * scale + 8:.1f}" y="{y + 12}">{number(median)}</text>'
        )
        y += _ROW
