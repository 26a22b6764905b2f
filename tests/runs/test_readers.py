"""Several readers of one run, one of whom does not read."""

from chatnest import Bounds, HardCaps, RunSettings
from chatnest.testing import Answer
from tests.servers.support import Client, ask, uvicorn_thread
from tests.servers.test_uvicorn import chat
from tests.streams.support import profile

KEY = ["Idempotency-Key: k1"]
PIECES = ("x" * 20_000,) * 200
WHOLE = "".join(PIECES)
HALF = 100


def test_who_stops_reading_holds_up_nobody(upstream):
    """He is told what he missed, and not as if it were the whole; the other has it all."""
    upstream.script(Answer.stall(HALF, pieces=PIECES))  # so that the other is never far behind
    roomy = Bounds(answer_bytes=8_000_000, send_seconds=30)
    many = dict.fromkeys(
        ("max_output_tokens", "max_tokens_per_request", "daily_token_limit"), 5_000_000
    )
    app = chat(
        upstream,
        runs=RunSettings(max_bytes=2_100_000),
        bounds=roomy,
        profiles=[profile(**many)],
        default_profile="own",
        hard_caps=HardCaps(**many),
    )
    with (
        uvicorn_thread(app, send_buffer=32_768) as port,
        Client(port, receive_buffer=4_096) as still,
        Client(port) as reader,
    ):
        still.request("POST", body=ask(), headers=KEY)
        stopped = still.reply()
        stopped.until(b"event: start")
        reader.request("POST", body=ask(), headers=KEY)
        reply = reader.reply()
        reply.until(b"id: %d\n" % HALF)
        upstream.release()
        reply.read_all()

        assert (reply.text == WHOLE, reply.events[-1]) == (True, "done")

        stopped.read_all()
        assert stopped.error["code"] == "replay_unavailable"
        assert 0 < len(stopped.text) < len(WHOLE)
        assert stopped.text == WHOLE[: len(stopped.text)]
    assert len(upstream.requests) == 1
