"""Checks of a built site: it needs no network, its search has an index, and it has two themes."""

import filecmp
import json
import re
from html.parser import HTMLParser
from pathlib import Path

LOADED = {
    "img": ("src", "srcset"),
    "script": ("src",),
    "link": ("href",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src",),
    "use": ("href",),
}
"""Attributes by which a page loads something. An ``a`` loads nothing until it is followed."""

CSS_LOADS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)")
SCRIPT_LOADS = re.compile(
    r"(?:fetch|import|importScripts|XMLHttpRequest)\(\s*['\"`]((?:https?:)?//)"
)
SEARCHED = (
    *("ollama", "nginx", "budget", "usechat", "redis", "docker", "idempot"),
    *("402", "429", "503", "o200k_bas"),
)
"""Beginnings of words that people look for. Each must be in the index of the search."""


class _Loads(HTMLParser):
    """The addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value for name, value in attrs if value and name in LOADED.get(tag, ()) and _far(value)
        ]


def _far(address: str) -> bool:
    return re.match(r"(?:https?:)?//", address) is not None


def far_loads(path: Path) -> list[str]:
    """The addresses of other servers that a file of the site loads."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return CSS_LOADS.findall(text)
    if path.suffix == ".js":
        return SCRIPT_LOADS.findall(text)
    parser = _Loads()
    parser.feed(text)
    return parser.found + CSS_LOADS.findall(text)


def check_site(folder: Path) -> list[str]:
    """The faults of a built site, a line each."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in {".html", ".css", ".js"}]
    found = [
        f"{path.relative_to(folder)}: expected files of the site alone, got {address}. Ship it."
        for path in files
        for address in far_loads(path)
    ]
    index = (folder / "searchindex.js").read_text(encoding="utf-8")
    terms = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))["terms"]
    found += [
        f"searchindex.js: expected a word that begins with {word!r}, got none. Is the page there?"
        for word in SEARCHED
        if not any(term.startswith(word) for term in terms)
    ]
    styles = "".join(path.read_text(encoding="utf-8") for path in files if path.suffix == ".css")
    if "prefers-color-scheme: dark" not in styles and "prefers-color-scheme:dark" not in styles:
        found.append("styles: expected a dark theme, got none. See html_theme in docsite/conf.py.")
    return found


def differences(one: Path, other: Path) -> list[str]:
    """The files that are not the same in two builds."""
    names = [
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    return [
        f"{name}: expected the same bytes from two builds, got others. Look for a time or a hash."
        for name in sorted(names[0] | names[1])
        if name not in names[0] & names[1]
        or not filecmp.cmp(one / name, other / name, shallow=False)
    ]
