"""The floor under uvicorn: tokens are counted in bytes, and nothing else is done."""

import asyncio
import os
from urllib.parse import urlsplit

PORT = urlsplit(os.environ["BENCH_UPSTREAM"]).port
FRAME = b'event: token\ndata: "tok~"\n\n'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: model\r\nContent-Length: %d\r\n\r\n"


async def app(scope, receive, send):
    """Counts the model's events in its bytes, and emits one frame for each."""
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(HEAD % len(body) + body)
    end = b""
    while end != b"0\r\n\r\n":
        data = await reader.read(65_536)
        end = (end + data[-5:])[-5:]
        if count := data.count(b"~"):
            await send({"type": "http.response.body", "body": FRAME * count, "more_body": True})
    writer.close()
    await send({"type": "http.response.body", "body": b""})
