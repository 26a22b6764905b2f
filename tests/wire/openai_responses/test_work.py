"""A piece of text takes at most 1.4 of the work that it takes in the native format."""

from typing import Any

import pytest

from chatnest.events import Done
from chatnest.wire import NativeFormat
from chatnest.wire.openai_responses.frames import ResponseFrames
from tests.work.test_work import BURST, KEYED, PACED, SERVED, Kind, work

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

MOST = 1.4
COUNTED = ("sends", "callbacks of the event loop", "calls of ours", "calls of others")


class Frames(ResponseFrames):
    """Ends as the client of these counts expects it."""

    __slots__ = ()

    def _done(self, done: Done) -> bytes:
        return super()._done(done) + b"event: done\n"


class Mixed(NativeFormat):
    """Reads native requests, which the client of these counts sends, and answers in ours."""

    frames: Any = Frames


@pytest.mark.parametrize(
    "kind", [SERVED, KEYED, PACED, BURST], ids=["served", "keyed", "paced", "burst"]
)
async def test_a_piece_takes_little_more_work_than_in_the_native_format(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    native = (await work(kind, monkeypatch, formats=[NativeFormat()])).found
    ours = (await work(kind, monkeypatch, formats=[Mixed()])).found
    record_property("work", str({name: (ours[name], native[name]) for name in COUNTED}))

    for name in COUNTED:
        assert ours[name] <= MOST * native[name], (name, ours[name], native[name])
