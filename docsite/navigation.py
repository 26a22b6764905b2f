"""The order of the pages, from docs/order.toml, and the list in docs/index.md.

``python -m docsite.navigation`` writes the list.
"""

import os
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ORDER = DOCS / "order.toml"
INDEX = DOCS / "index.md"
BEGIN, END = "<!-- from order.toml: begin -->\n", "<!-- from order.toml: end -->\n"

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY: str = _PROJECT["urls"]["Repository"]


class Group(NamedTuple):
    """A heading of the navigation, and its pages by their paths below docs/, without suffix."""

    title: str
    pages: tuple[str, ...]


class Navigation(NamedTuple):
    """The groups in their order, and the pages that stand below another page."""

    groups: tuple[Group, ...]
    below: dict[str, tuple[str, ...]]

    def pages(self) -> list[str]:
        """Every page that has a place."""
        grouped = [page for group in self.groups for page in group.pages]
        return [*grouped, *(page for pages in self.below.values() for page in pages)]


def navigation() -> Navigation:
    """The content of docs/order.toml."""
    read = tomllib.loads(ORDER.read_text(encoding="utf-8"))
    groups = tuple(Group(each["title"], tuple(each["pages"])) for each in read["group"])
    return Navigation(groups, {page: tuple(pages) for page, pages in read["below"].items()})


def faults(found: Navigation) -> list[str]:
    """Faults of docs/order.toml: a page without a place or with two, a place without a page."""
    listed = found.pages()
    there = {
        path.relative_to(DOCS).with_suffix("").as_posix()
        for path in DOCS.rglob("*.md")
        if path != INDEX
    }
    return [
        *(
            f"docs/{page}.md: expected a place in docs/order.toml, got none. Add it to a group."
            for page in sorted(there - set(listed))
        ),
        *(
            f"docs/order.toml: expected a page of docs/, got {page!r}. Remove it or write it."
            for page in sorted(set(listed) - there)
        ),
        *(
            f"docs/order.toml: expected one place for each page, got {listed.count(page)} for "
            f"{page!r}. Keep one."
            for page in sorted(set(listed))
            if listed.count(page) > 1
        ),
    ]


def title_of(page: str) -> str:
    """The first heading of a page of docs/."""
    first = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ")


def listing() -> str:
    """Every page, by group, as a Markdown list for docs/index.md."""
    found = navigation()
    return "\n" + "".join(
        f"**{group.title}**\n\n{''.join(_rows(page, found) for page in group.pages)}\n"
        for group in found.groups
    )


def _rows(page: str, found: Navigation) -> str:
    below = ", ".join(_link(each) for each in found.below.get(page, ()))
    return f"- {_link(page)}{f': {below}' if below else ''}\n"


def _link(page: str) -> str:
    return f"[{title_of(page)}]({os.path.relpath(DOCS / f'{page}.md', DOCS)})"


def index_with(rows: str) -> str:
    """docs/index.md with these rows in place of its own."""
    before, _, rest = INDEX.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}{rows}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    INDEX.write_text(index_with(listing()), encoding="utf-8")
