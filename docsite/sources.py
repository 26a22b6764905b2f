"""The source of the site: docs/, the project's own pages and a page for each public module.

A page of docs/ reads well on a forge as it is. Here it gets what a forge does not need: links to
files outside of docs/ become addresses of the repository, and the navigation becomes toctrees.
"""

import os
import re
import shutil
from pathlib import Path

from docsite.navigation import DOCS, INDEX, REPOSITORY, ROOT, Navigation, faults, navigation
from docsite.reference import MODULES, page_of

PROJECT = {
    "CONTRIBUTING.md": "project/contributing.md",
    "tests/README.md": "project/tests.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
}
"""Pages that stand outside of docs/, where a forge looks for them, and their place on the site."""

_LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


class BrokenLinks(Exception):
    """Links of pages that lead to no file."""


def write_sources(into: Path) -> None:
    """Write everything that Sphinx reads into a new folder. Raises BrokenLinks."""
    found = navigation()
    if wrong := faults(found):
        raise BrokenLinks("\n".join(wrong))
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(DOCS, into, ignore=shutil.ignore_patterns("*.md", "*.toml"))
    broken: list[str] = []
    for page in [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in PROJECT)]:
        target = into / _place(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = _linked(page, broken) + _toctrees(page, found)
        target.write_text(text, encoding="utf-8")
    for module in MODULES:
        target = into / f"api/{module}.rst"
        target.parent.mkdir(exist_ok=True)
        target.write_text(page_of(module), encoding="utf-8")
    if broken:
        raise BrokenLinks("\n".join(broken))


def _place(page: Path) -> str:
    """Where a page of the repository stands in the source of the site."""
    name = page.relative_to(ROOT).as_posix()
    return PROJECT.get(name) or page.relative_to(DOCS).as_posix()


def _linked(page: Path, broken: list[str]) -> str:
    """The text of a page, with each link as it must be on the site."""

    def linked(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = Path(os.path.normpath(page.parent / target))
        if not path.exists() or not path.is_relative_to(ROOT):
            broken.append(f"{page.relative_to(ROOT)}: {target} does not exist.")
            return match[0]
        return f"{before}{_address(path, page)}{after}"

    parts = _FENCE.split(page.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else _LINK.sub(linked, part) for part in parts)


def _address(path: Path, page: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        path, name = INDEX, "docs/index.md"
    if name in PROJECT or path.is_relative_to(DOCS):
        return os.path.relpath(_place(path), Path(_place(page)).parent)
    return f"{REPOSITORY}/{'tree' if path.is_dir() else 'blob'}/main/{name}"


def _toctrees(page: Path, found: Navigation) -> str:
    if page == INDEX:
        groups = [*found.groups, ("Python API", [f"api/{module}" for module in MODULES])]
        groups.append(("The project", [name.removesuffix(".md") for name in PROJECT.values()]))
        return "".join(_toctree(title, [f"/{each}" for each in pages]) for title, pages in groups)
    name = page.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/")
    below = found.below.get(name)
    return _toctree("", [f"/{each}" for each in below]) if below else ""


def _toctree(title: str, pages: list[str]) -> str:
    caption = f":caption: {title}\n" if title else ""
    return f"\n```{{toctree}}\n:hidden:\n{caption}\n" + "\n".join(pages) + "\n```\n"
