"""JavaScript clients: a Node process for each, which runs commands."""

import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

__all__ = ["MISSING", "NodeClient", "modules", "prepare"]

_FOLDER = os.environ.get("CHATNEST_NODE_CLIENTS", "")
_PROGRAMS = Path(__file__).parent / "js"

MISSING = (
    ""
    if _FOLDER and shutil.which("node")
    else "CHATNEST_NODE_CLIENTS names no folder with the packages of tests/clients/package.json: "
    "nox -s tests installs them where npm is"
)
"""Why JavaScript clients cannot run, or nothing."""


def modules() -> Path:
    """The folder of the packages."""
    return Path(_FOLDER) / "node_modules"


def prepare(place: Path) -> Path:
    """Copy the programs to where Node finds their packages, and return that folder."""
    folder = place / "clients"
    shutil.copytree(_PROGRAMS, folder)
    (folder / "node_modules").symlink_to(modules())
    return folder


class NodeClient:
    """A running client. ``ask`` returns the result of a command."""

    def __init__(self, folder: Path, name: str) -> None:
        self._process = subprocess.Popen(
            ["node", "runner.mjs", name],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._results: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, command: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
        """Run a command to its end. Raises TimeoutError, or RuntimeError if the client has died."""
        with self._lock:
            self._next += 1
            number = self._next
            results = self._results[number] = queue.SimpleQueue()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command | {"id": number}) + "\n")
            self._process.stdin.flush()
        try:
            result = results.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no result within {seconds} s: {command}") from None
        if result is None:
            raise RuntimeError("the client has died")
        return result

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            result = json.loads(line)
            self._results[result["id"]].put(result)
        for results in list(self._results.values()):
            results.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(20)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
