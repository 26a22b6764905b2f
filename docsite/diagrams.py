"""The diagrams of the docs, as SVG: ``python -m docsite.diagrams`` writes docs/pictures/*.svg."""

from collections.abc import Callable
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs/pictures"

STYLE = """<style>
  .ground { fill: #ffffff; stroke: #d0d7de } text { font: 13px sans-serif; fill: #1f2328 }
  .small { font-size: 11.5px; fill: #59636e } .strong { font-weight: bold }
  .box { fill: #f6f8fa; stroke: #8c959f } .ours { fill: #ddf4ff; stroke: #0969da }
  .line { stroke: #59636e; stroke-width: 1.3; fill: none } .head { fill: #59636e }
  .life { stroke: #8c959f; stroke-dasharray: 3 4 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d } text { fill: #f0f6fc } .small { fill: #9198a1 }
    .box { fill: #151b23; stroke: #656c76 } .ours { fill: #0c2d6b; stroke: #4493f8 }
    .line { stroke: #9198a1 } .head { fill: #9198a1 } .life { stroke: #656c76 }
  }
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
 orient="auto-start-reverse"><path class="head" d="M0 0 L8 4 L0 8 Z"/></marker></defs>
"""


def text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "middle") -> str:
    """A line of text."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>\n'


def box(x: float, y: float, width: float, lines: str, *, ours: bool = False) -> str:
    """A box of 44 pixels, with a line in bold and one below it."""
    first, _, second = lines.partition("\n")
    shape = f'<rect class="{"ours" if ours else "box"}" x="{x}" y="{y}" width="{width}"'
    middle = x + width / 2
    return (
        f'{shape} height="44" rx="6"/>\n'
        + text(middle, y + (19 if second else 27), first, kind="strong")
        + (text(middle, y + 35, second, kind="small") if second else "")
    )


def arrow(x: float, y: float, to_x: float, to_y: float, words: str = "", *, up: float = 6) -> str:
    """An arrow, with words above its middle."""
    line = f'<line class="line" marker-end="url(#head)" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'
    said = text((x + to_x) / 2, (y + to_y) / 2 - up, words, kind="small") if words else ""
    return f"{line}\n{said}"


def lifelines(places: dict[str, int], bottom: int, *, ours: tuple[str, ...]) -> str:
    """The participants of a sequence, each with a line below it."""
    return "".join(
        box(x - 65, 16, 130, name, ours=name in ours)
        + f'<line class="life" x1="{x}" y1="60" x2="{x}" y2="{bottom}"/>\n'
        for name, x in places.items()
    )


def sequence(
    at: dict[str, int], bottom: int, steps: list[tuple[str, str, str]], *, ours: tuple[str, ...]
) -> str:
    """Participants and the steps between them, one below the other."""
    rows = (
        arrow(at[one], 92 + 34 * row, at[other], 92 + 34 * row, words)
        for row, (one, other, words) in enumerate(steps)
    )
    return lifelines(at, bottom, ours=ours) + "".join(rows)


def turn() -> str:
    """One turn, from the request to the settlement."""
    at = {"Client": 90, "chatnest": 290, "Ledger": 490, "Model": 680}
    steps = [
        ("Client", "chatnest", "POST /api/chat"),
        ("chatnest", "Ledger", "reserve the worst case"),
        ("chatnest", "Model", "call, with the reserved output limit"),
        ("Model", "chatnest", "pieces of the answer"),
        ("chatnest", "Client", "start, token, token, ..."),
        ("chatnest", "Ledger", "settle: charge what was used"),
        ("chatnest", "Client", "done, or error"),
    ]
    note = text(290, 336, "A refusal costs nothing: the model is not called.", kind="small")
    return sequence(at, 310, steps, ours=("chatnest", "Ledger")) + note


def hold() -> str:
    """The states of a hold: a reservation of the worst case."""
    return (
        box(20, 90, 130, "request\nadmitted?")
        + box(210, 90, 140, "held\nthe worst case", ours=True)
        + box(500, 16, 220, "settled\ncharged what was used")
        + box(500, 90, 220, "released\ncharged 0: no model was reached")
        + box(500, 164, 220, "expired\ncharged in full, after 30 s")
        + box(20, 190, 130, "refused\n429, charged 0")
        + arrow(150, 112, 208, 112, "yes")
        + arrow(85, 134, 85, 188)
        + text(98, 165, "no", kind="small")
        + arrow(350, 104, 498, 40)
        + text(385, 52, "done, stop or failure", kind="small")
        + arrow(350, 112, 498, 112)
        + text(440, 107, "the call never began", kind="small")
        + arrow(350, 120, 498, 184)
        + text(400, 178, "its worker crashed", kind="small")
        + '<path class="line" marker-end="url(#head)" d="M250 90 C235 45 325 45 310 88"/>\n'
        + text(205, 46, "lease renewed while it streams", kind="small")
    )


def run() -> str:
    """A run whose reader reconnects to another worker."""
    at = {"Client": 90, "Worker A": 290, "Run log": 490, "Worker B": 680}
    steps = [
        ("Client", "Worker A", "POST, Idempotency-Key"),
        ("Worker A", "Run log", "events 1 to 40"),
        ("Worker A", "Client", "events 1 to 25, then the network breaks"),
        ("Client", "Worker B", "GET /runs/ID, Last-Event-ID: 25"),
        ("Run log", "Worker B", "events 26 to 40"),
        ("Worker B", "Client", "events 26 to 40, and each new one"),
        ("Worker A", "Run log", "the last event"),
        ("Run log", "Worker B", "the last event"),
        ("Worker B", "Client", "done"),
    ]
    note = text(385, 404, "One call to the model, one charge, the same text.", kind="small")
    return sequence(at, 380, steps, ours=("Worker A", "Run log", "Worker B")) + note


def house() -> str:
    """The parts of the application, and the places where other code plugs in."""
    return (
        box(20, 90, 140, "ASGI server\nor your framework")
        + box(220, 90, 140, "ChatNestApp\nroutes a request", ours=True)
        + box(420, 90, 140, "the turn\nadmit, call, settle", ours=True)
        + box(600, 90, 140, "the run\nkept, resumed", ours=True)
        + box(120, 16, 150, "identify=\nwho asks")
        + box(300, 16, 150, "formats=\nhow clients speak")
        + box(480, 16, 150, "policies=\nwhat is admitted")
        + box(210, 180, 160, "provider=, models=\nwhere answers come from")
        + box(400, 180, 150, "ledger=\naccounts and holds")
        + box(580, 180, 160, "run_log=\nevents of answers")
        + arrow(160, 112, 218, 112)
        + arrow(360, 112, 418, 112)
        + arrow(560, 112, 598, 112)
        + arrow(215, 60, 262, 88)
        + arrow(350, 60, 312, 88)
        + arrow(545, 60, 510, 88)
        + arrow(450, 134, 320, 178)
        + arrow(490, 134, 478, 178)
        + arrow(670, 134, 663, 178)
    )


DRAWN: dict[str, tuple[str, int, Callable[[], str]]] = {
    "turn": ("A turn, from the request to its settlement", 352, turn),
    "hold": ("The states of a hold", 250, hold),
    "run": ("A run that is resumed at another worker", 420, run),
    "house": ("The parts of chatnest and where other code plugs in", 240, house),
}


def drawing(name: str) -> str:
    """The whole file of a diagram."""
    label, height, draw = DRAWN[name]
    size = f'width="760" height="{height}" viewBox="0 0 760 {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">\n'
    ground = f'<rect class="ground" x="0.5" y="0.5" width="759" height="{height - 1}" rx="6"/>\n'
    return f"{head}{STYLE}{ground}{draw()}</svg>\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in DRAWN:
        (FOLDER / f"{name}.svg").write_text(drawing(name), encoding="utf-8")
