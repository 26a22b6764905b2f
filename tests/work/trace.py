"""Trace: the calls of our functions while one request is served."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest

from tests.work.test_work import OURS, Kind, Work, work

CLIENT = str(Path(OURS) / "testing")

AN_EXCHANGE = Kind(heap=1, before=1, counted=4, sends_now=True)
"""The first piece goes through the tasks, the others take the fast path."""


class Call(NamedTuple):
    """A function of ours at its first step, as ``module:name``, and its callers of ours, the
    nearest first. A task begins without any.
    """

    name: str
    callers: tuple[str, ...]

    @property
    def caller(self) -> str:
        return self.callers[0] if self.callers else ""


class Trace:
    """The calls of one request, in their order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._frames: set[FrameType] = set()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not is_ours(frame.f_code) or frame in self._frames:
            return
        self._frames.add(frame)  # a coroutine that goes on is not called once more
        callers = []
        above = frame.f_back
        while above is not None:
            if is_ours(above.f_code):
                callers.append(name_of(above.f_code))
            above = above.f_back
        self.calls.append(Call(name_of(frame.f_code), tuple(callers)))

    @contextmanager
    def noting(self) -> Iterator[None]:
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)


def is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(OURS) and not code.co_filename.startswith(CLIENT)


def name_of(code: CodeType) -> str:
    path = Path(code.co_filename).relative_to(OURS).with_suffix("")
    return f"{'.'.join(path.parts).removesuffix('.__init__')}:{code.co_qualname}"


async def posted(monkeypatch: pytest.MonkeyPatch, *, keyed: bool = False) -> Trace:
    """The trace of a chat, in an application that has answered others."""
    traces: dict[Work, Trace] = {}

    def profile(self: Work, frame: FrameType, event: str, arg: Any) -> None:
        traces.setdefault(self, Trace()).note(frame, event, arg)

    with monkeypatch.context() as patch:
        patch.setattr(Work, "profile", profile)
        return traces[await work(AN_EXCHANGE, patch, keyed=keyed)]
