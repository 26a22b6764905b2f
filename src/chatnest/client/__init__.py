"""ChatNestClient: a Python client of a chatnest server that survives broken connections.

It reconnects by itself: with the same Idempotency-Key until the first event has arrived, then by
resuming the run after the last event that it read. So an answer is generated, charged and read
once.

The server may be broken or hostile: everything but the answer is read within bounds, and nothing
is decompressed.
"""

from chatnest.client.answer import Answer, Receipt
from chatnest.client.client import ChatNestClient
from chatnest.client.errors import ChatError
from chatnest.client.images import image_part
from chatnest.client.tools import Tool, ToolRun

__all__ = ["Answer", "ChatError", "ChatNestClient", "Receipt", "Tool", "ToolRun", "image_part"]
