"""A reader who follows a page: saves its files, starts its servers and types its commands.

Three things differ from a reader's machine. A server has a port of its own, a demo that types
faster, and bounds for a machine that is busy. Packages are there already. In place of an engine
for containers, the command of the image runs beside a Redis with the options of the Compose file,
in a folder with the files that the image has.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from docsite.files import blocks_of
from tests.docs.front_ends import matches
from tests.ledger.server import running
from tests.servers.support import COMPLAINTS
from tests.support.forks import Fork, Forks
from tests.support.ports import free_port

__all__ = ["Walk"]

NOT_RUN = {
    "mkdir": "the folder of the test is there",
    "git clone": "needs a network",
    "python3 -m venv": "the tests have an environment",
    "pip install": "needs a network",
    "npm install": "needs a network",
    "npx esbuild": "needs Node: tests/browser/test_real_application.py runs it",
}
"""Commands that a reader types and the walk leaves out."""

REDIS = "redis://redis:6379/0"
"""The address that containers of the Compose file have for the Redis."""
SERVER = re.compile(r"^((?:[A-Z_]+=\S+ )*)uvicorn (.*)$")

MACHINE = "tests.docs.readers_machine"


class Walk:
    """The state of a reader: a folder, a server in the first terminal, variables in the second."""

    def __init__(self, page: Path, place: Path) -> None:
        self.place = place
        self.blocks = blocks_of(page.read_text(encoding="utf-8"))
        self.ran: list[str] = []
        self.port = free_port()
        self._variables: list[str] = []
        self._stores = ExitStack()
        self._server = ExitStack()
        self._redis = REDIS
        (place / "printed").mkdir()
        self._forks = Forks(place / "printed", f"{MACHINE}:prepare")
        (place / "chatnest").mkdir()  # the copy: a folder of that name hides no package

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stores, self._forks:
            self._server.close()

    def commands(self) -> list[str]:
        """All commands of the page."""
        shown = [each.text for each in self.blocks if each.language == "console" and not each.file]
        return [command for text in shown for command, _ in _typed(text)]

    def all(self) -> None:
        """Follow the page from its beginning to its end."""
        for block in self.blocks:
            if block.file:
                self._write(block.file, block.text)
            elif block.language == "console":
                for command, output in _typed(block.text):
                    self.type(command, output)

    def type(self, command: str, output: str = "...\n") -> None:
        """Run a command, and compare what it prints. Raises AssertionError."""
        self.ran.append(command)
        if any(command.startswith(each) for each in NOT_RUN):
            return
        if started := SERVER.match(command):
            given = dict(each.split("=") for each in started[1].split())
            printed = self._start(shlex.split(started[2]), self.place, given)
            assert matches(_plain(output), _plain(self._as_shown(printed))), printed
        elif command.startswith("docker compose up"):
            self._start_image()
        elif command.startswith("export ") or "() {" in command:
            self._variables.append(command)
        else:
            self._compare(command, output)

    def _write(self, name: str, text: str) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _compare(self, command: str, output: str) -> None:
        printed = self._as_shown(self.run(command))  # an answer is settled before its end
        assert matches(_plain(output), _plain(printed)), f"{command}\n{printed}"

    def run(self, command: str) -> str:
        """Run a command, and return what it prints."""
        command = command.replace("docker compose exec bakery ", "").replace(REDIS, self._redis)
        if command.startswith("chatnest "):
            main = f"{MACHINE}:chatnest_main"
            ran = self._forks.start(main, shlex.split(command), self.place, environment())
            ran.wait()
            return ran.printed
        script = "\n".join([*self._variables, command]).replace(":8000", f":{self.port}")
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.place,
            env=environment(),
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        return done.stdout + done.stderr

    def _as_shown(self, printed: str) -> str:
        return printed.replace(f":{self.port}", ":8000")

    def _start(self, arguments: list[str], folder: Path, given: dict[str, str]) -> str:
        """Start a server in place of the one before, and return what it prints."""
        self._server.close()
        environ = {**environment(), **given, "UVICORN_PORT": str(self.port)}
        main = f"{MACHINE}:uvicorn_main"
        server = self._forks.start(main, ["uvicorn", *arguments], folder, environ)
        self._server.callback(_stop, server)
        server.wait_for("Uvicorn running on")
        return server.printed

    def _start_image(self) -> None:
        """Start the command of the image, with the files of the image, beside a Redis."""
        recipe = (self.place / "Dockerfile").read_text()
        compose = (self.place / "compose.yaml").read_text()
        self._start_redis(compose)
        environ = {
            name: value.strip('"').replace(REDIS, self._redis)
            for name, value in re.findall(r"^      ([A-Z_]+): ([^$\n]+)$", compose, re.MULTILINE)
        }
        assert environ["REDIS_URL"] == self._redis
        (command,) = re.findall(r"^CMD (\[.*\])$", recipe, re.MULTILINE)
        program, *arguments = json.loads(command.replace("0.0.0.0", "127.0.0.1"))
        assert program == "uvicorn"
        self._start(arguments, self._image(recipe), environ)

    def _start_redis(self, compose: str) -> None:
        (options,) = re.findall(r"^    command: (\[.*\])$", compose, re.MULTILINE)
        folder = self.place / "redis"
        folder.mkdir()
        program, *arguments = json.loads(options)
        assert program == "redis-server"
        redis = self._stores.enter_context(running(folder, *arguments))
        self._redis = f"{redis.url}/0"

    def _image(self, recipe: str) -> Path:
        """A folder with the files that the recipe copies."""
        image = self.place / "image"
        for sources, target in re.findall(r"^COPY (.+) (\S+)$", recipe, re.MULTILINE):
            for source in map(self.place.joinpath, sources.split()):
                copy = image / target / ("" if source.is_dir() else source.name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
        return image


def environment() -> dict[str, str]:
    """That of a reader, in whose shell the environment of the page is active."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CHATNEST_", "OPENAI_"))}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}


def _stop(server: Fork) -> None:
    """Press Ctrl+C. A server that ends in peace complains of nothing."""
    server.stop()
    assert not COMPLAINTS.search(server.printed), server.printed


def _typed(text: str) -> list[tuple[str, str]]:
    """The commands of a block, and what each prints."""
    found = re.split(r"^\$ ", text.replace("\\\n", "\\\n\0"), flags=re.MULTILINE)[1:]
    typed = []
    for each in found:
        command, _, output = re.sub(r"\\\n\0\s*", "", each).partition("\n")
        typed.append((command, output))
    return typed


def _plain(text: str) -> str:
    """Without what differs each time."""
    text = re.sub(r"[\w-]{43}$", "KEY", text, flags=re.MULTILINE)
    text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:HASH", text)
    text = re.sub(r"process \[\d+\]", "process [PID]", text)
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())
