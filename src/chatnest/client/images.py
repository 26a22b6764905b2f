"""Images in messages of the client. No I/O."""

from base64 import b64encode
from typing import Any

from chatnest.tokens.image_size import image_size

__all__ = ["image_part"]


def image_part(data: bytes) -> dict[str, Any]:
    """A part of a message with an image: the bytes of a PNG, JPEG, GIF or WebP file.

    Raises ValueError for anything else.
    """
    size = image_size(data)
    if size is None:
        raise ValueError(
            f"data: expected a PNG, JPEG, GIF or WebP, got {len(data)} other bytes. Convert it."
        )
    url = f"data:image/{size.kind};base64,{b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
