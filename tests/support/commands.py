"""Commands of ``chatnest`` in this process: an interpreter of their own takes a second to start."""

import io
import os
import threading
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from chatnest.cli import main

__all__ = ["run_command"]

_SECONDS = 60


def run_command(*arguments: str, cwd: Path, environ: Mapping[str, str]) -> "CompletedProcess[str]":
    """What ``chatnest`` with ``arguments`` writes, and its exit code. The command has a thread with
    an event loop of its own, so that a test may wait for it within another one.
    """
    code: int | str | None = 0
    out, err = io.StringIO(), io.StringIO()

    def run() -> None:
        nonlocal code
        try:
            main(arguments)
        except SystemExit as exc:
            code = exc.code

    with (
        chdir(cwd),
        mock.patch.dict(os.environ, environ, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(_SECONDS)
    assert not thread.is_alive()
    assert isinstance(code, int)
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
