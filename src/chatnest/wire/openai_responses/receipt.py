"""Receipt: the response to a cancellation. No I/O."""

from collections.abc import Mapping
from typing import Final

from chatnest.asgi.http import Document
from chatnest.wire.base import StreamInfo
from chatnest.wire.openai_responses.response_object import response_object
from chatnest.wire.sse import json_of

__all__ = ["receipt_document"]

_STATUSES: Final = {
    "done": "completed",
    "running": "in_progress",
    "cancelled": "cancelled",
    "client_gone": "cancelled",
}
"""The status of a response by the outcome of its run. All other outcomes are failures."""


def receipt_document(receipt: Mapping[str, object]) -> Document:
    """The response of a run that was cancelled, with the status that it had if it had ended before.
    Its output, its model and its usage are not kept.
    """
    outcome = str(receipt["outcome"])
    status = _STATUSES.get(outcome, "failed")
    error = None
    if status == "failed":  # the API has no other code that fits
        error = {"code": "server_error", "message": f"The response failed: {outcome}."}
    info = StreamInfo(request_id=str(receipt["run_id"]), model="")
    return Document(
        status=200,
        media_type="application/json",
        body=json_of(response_object(info, status, error=error)),
    )
