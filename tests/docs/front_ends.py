"""The pages of docs/how-to/front-ends: their programs, what they print, and a server for them."""

import json
import re
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.clients.node import modules
from tests.servers.support import DEMO, Process
from tests.support.waiting import wait_for

__all__ = [
    "PAGES",
    "PIXEL",
    "Program",
    "Servers",
    "bundle",
    "limit",
    "matches",
    "programs",
    "run",
    "settled",
]

FOLDER = Path(__file__).parents[2] / "docs/how-to/front-ends"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`([\w./-]+\.(?:py|mjs|jsx|toml))`")
_LANGUAGES = {"py": "python", "mjs": "js", "jsx": "jsx", "toml": "toml"}

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)
"""A PNG of one pixel, the ``photo.png`` of the programs."""


class Program(NamedTuple):
    """A file that a page shows. ``prints`` is the block of text after it, and ``config`` the
    configuration that the page has shown before it.
    """

    page: str
    name: str
    text: str
    prints: str
    config: str

    def __str__(self) -> str:
        return f"{self.page}-{self.name}"


class Page:
    """A page with its files, in their order. The last backquoted name before a block of code is
    that of its file.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        self.programs: list[Program] = []
        config, end = "", 0
        blocks = list(_BLOCK.finditer(text))
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            name, end = _last_name(text[end : block.start()]), block.end()
            if _LANGUAGES.get(name.rpartition(".")[2]) != block[1]:
                continue
            if block[1] == "toml":
                config = block[2]
                continue
            prints = after[2] if after is not None and after[1] == "text" else ""
            self.programs.append(Program(path.stem, name, block[2], prints, config))

    def __getitem__(self, name: str) -> Program:
        (found,) = [each for each in self.programs if each.name == name]
        return found


def _last_name(text: str) -> str:
    names: list[str] = _NAME.findall(text)
    return names[-1] if names else ""


PAGES = {path.stem: Page(path) for path in sorted(FOLDER.glob("*.md"))}


def programs(kind: str) -> list[Program]:
    """All programs with this end of their name that print something."""
    every = [each for page in PAGES.values() for each in page.programs]
    return [each for each in every if each.name.endswith(kind) and each.prints]


class Servers:
    """``chatnest serve --demo`` with each configuration, each started once."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._stack = ExitStack()
        self._ports: dict[tuple[object, ...], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def port(self, config: str = "", **environ: str) -> int:
        """The port of the server with this configuration. A variable that has no meaning makes it a
        server that no other test has, with time to stop its answers.
        """
        key = (config, *sorted(environ.items()))
        if key not in self._ports:
            folder = self._place / f"server-{len(self._ports)}"
            folder.mkdir()
            (folder / "chatnest.toml").write_text(config)
            paced = ("-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:")
            command = [*(paced if environ else DEMO)]
            command += ["--config", "chatnest.toml"] if config else []
            process = self._stack.enter_context(Process(command, cwd=folder, **environ))
            self._ports[key] = process.ready()
        return self._ports[key]


def run(program: Program, port: int, place: Path) -> str:
    """What a program prints against the server at a port."""
    (place / "photo.png").write_bytes(PIXEL)
    (place / program.name).write_text(program.text.replace(":8000", f":{port}"))
    command = [sys.executable]
    if program.name.endswith(".mjs"):
        (place / "node_modules").symlink_to(modules())
        command = ["node"]
    ran = subprocess.run(
        [*command, program.name],
        cwd=place,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def limit(port: int, name: str) -> dict[str, Any]:
    """A limit of this machine's at a server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/chat/limits") as response:
        limits: list[dict[str, Any]] = json.load(response)["limits"]
    return next(limit for limit in limits if limit["name"] == name)


def settled(port: int) -> int:
    """The tokens that are used, once none are held."""
    wait_for(lambda: not limit(port, "tokens")["held"])
    used: int = limit(port, "tokens")["used"]
    return used


def bundle(program: Program, port: int, place: Path, *, draws: str) -> None:
    """Make a page of a React component, in a folder that a static server serves. ``draws`` is the
    page of the docs that has ``Thread.jsx``.
    """
    source = place / "source"
    source.mkdir(parents=True)
    (source / "node_modules").symlink_to(modules())
    (source / "main.jsx").write_text(_MAIN)
    drawn = [each for each in PAGES[draws].programs if each.name == "Thread.jsx"]
    for name, text in (("App.jsx", program.text), *((each.name, each.text) for each in drawn)):
        (source / name).write_text(text.replace(":8000", f":{port}"))
    options = ["--bundle", "--jsx=automatic", "--log-level=error", "--format=esm"]
    subprocess.run(
        [
            *("node", "node_modules/esbuild/bin/esbuild", "main.jsx", *options),
            '--define:process.env.NODE_ENV="development"',
            f"--outfile={place}/main.js",
        ],
        cwd=source,
        check=True,
        timeout=120,
    )
    (place / "index.html").write_text(_INDEX)


_MAIN = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import App from "./App.jsx";

createRoot(document.getElementById("root")).render(<StrictMode><App /></StrictMode>);
"""
_INDEX = """<!doctype html>
<html lang="en"><title>A page</title><link rel="icon" href="data:,">
<div id="root"></div><script type="module" src="main.js"></script>
"""


def matches(shown: str, printed: str) -> bool:
    """Whether a program printed what the page shows, where a line ``...`` is any lines."""
    found = "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines())
    first, *parts = re.split(r"^\.\.\.\n", f"{shown.strip()}\n", flags=re.MULTILINE)
    if not parts:
        return found == first
    *between, last = parts
    if not found.startswith(first) or not found.endswith(last):
        return False
    place = len(first)
    for part in between:
        place = found.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return place <= len(found) - len(last)
