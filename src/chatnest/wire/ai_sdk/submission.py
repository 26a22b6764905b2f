"""Submission: which requests of ``useChat`` are one, and which message their answer belongs to.
No I/O.

``useChat`` sends no key. It sends the whole chat each time, and each message has an id that the
client has made. So two requests with the same chat, trigger and messages are one submission: a
repetition by a proxy, a service worker or two tabs.
"""

import hashlib
from typing import Final

import msgspec

from chatnest.requests import Submission, is_conversation
from chatnest.wire.ai_sdk.body import Body
from chatnest.wire.ai_sdk.places import PLACES
from chatnest.wire.caps import is_identifier

__all__ = ["submission_of"]

_AGAIN: Final = "regenerate-message"
"""The trigger of a request for another answer to the same messages."""

_encoder: Final = msgspec.json.Encoder()


def submission_of(body: Body, images: bytes) -> Submission:
    """The key of a request, and the id of the message that its answer belongs to. ``images`` is a
    digest of the images that are not in ``body``.

    The note is the id. It is empty for an answer that is named after its run: see AISDKFrames.
    """
    if body.id is not None and not is_conversation(body.id):
        raise PLACES.wrong("id")
    if body.message_id is not None and not is_identifier(body.message_id):
        raise PLACES.wrong("messageId")
    key = _key(body, images)
    message_id = _continued(body)
    if message_id is None:
        # not the run's id: each reader of a repeated submission gets the same bytes
        message_id = f"msg_{key[:24]}" if key is not None and body.trigger != _AGAIN else ""
    return Submission(
        key=key,
        replays=body.trigger != _AGAIN,
        note=None if body.id is None else message_id,
        facts=message_id,
    )


def _key(body: Body, images: bytes) -> str | None:
    """A digest of all fields that the answer depends on. Fields that a user has added are not among
    them. None without ids, by which a client can ask the same question twice.
    """
    if body.id is None or not all(message.id for message in body.messages):
        return None
    return hashlib.sha256(_encoder.encode(body) + images).hexdigest()


def _continued(body: Body) -> str | None:
    """The id of the message that the answer continues, or None for a message of its own. A client
    that gets another id has the message twice.
    """
    if body.trigger == _AGAIN:
        return None
    place, found = len(body.messages) - 1, body.messages[-1]
    if body.message_id is not None:
        for number, message in enumerate(body.messages):
            if message.id == body.message_id:
                place, found = number, message
                break
    if found.role != "assistant" or not found.id:
        return None
    if not is_identifier(found.id):
        raise PLACES.wrong(f"messages[{place}].id")
    return found.id
