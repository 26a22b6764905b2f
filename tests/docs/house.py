"""The table of modules on the design page: ``python -m tests.docs.house`` writes it anew."""

import ast
from pathlib import Path

from tests.test_house import LAYERS, MODULES

PAGE = Path(__file__).parents[2] / "docs/discussion/design.md"
BEGIN, END = "<!-- from the tree: begin -->\n", "<!-- from the tree: end -->\n"


def table() -> str:
    """A row for each module and folder at the top, from the application down to the errors."""
    names = [name for row in reversed(LAYERS[""]) for name in row.split() if name != "chatnest"]
    rows = [f"| `{_shown(name)}` | {_purpose(name)} |\n" for name in names]
    return f"| module or folder | purpose |\n|---|---|\n{''.join(rows)}"


def _shown(name: str) -> str:
    is_folder = any(module.startswith(f"{name}.") for module in MODULES)
    return f"{name}/" if is_folder else f"{name}.py"


def _purpose(name: str) -> str:
    first = (ast.get_docstring(MODULES[name]) or "").partition("\n")[0]
    return first.replace("``", "`").removesuffix(" No I/O.")


def parts() -> tuple[str, str, str]:
    """The page before the table, the table, and the page behind it."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    shown, _, behind = rest.partition(END)
    return before, shown, behind


if __name__ == "__main__":
    before, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{behind}", encoding="utf-8")
