"""The floor under uvicorn: a token a time, from nowhere, without any limit."""

import asyncio
import os
from urllib.parse import urlsplit

PORT = urlsplit(os.environ["BENCH_UPSTREAM"]).port
FRAME = b'event: token\ndata: "tok"\n\n'


async def app(scope, receive, send):
    """Counts the model's events in its bytes, and emits one frame for each."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    rest = b""
    while not rest.endswith(b"0\r\n\r\n"):
        data = await reader.read(65_536)
        count = (rest[-4:] + data).count(b'"tok"')
        rest = (rest + data)[-16:]
        for _ in range(count):
            await send({"type": "http.response.body", "body": FRAME, "more_body": True})
    writer.close()
    await send({"type": "http.response.body", "body": b""})
