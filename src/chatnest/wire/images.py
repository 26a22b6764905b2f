"""Images of a request: from a ``data:`` URL to an Image whose size is known. No I/O."""

import re
from binascii import Error, a2b_base64
from typing import Final

from chatnest.conversation import Image
from chatnest.errors import InvalidRequest
from chatnest.tokens.image_size import image_size

__all__ = ["MAX_IMAGE_BYTES", "MAX_PIXELS", "image_of"]

MAX_IMAGE_BYTES: Final = 5_242_880
"""Maximum bytes of one image. Anthropic accepts no more."""

MAX_PIXELS: Final = 40_000_000
"""Maximum pixels of one image. A small file may have billions, for which a provider may charge."""

_DATA: Final = re.compile(r"data:image/(png|jpeg|jpg|gif|webp);base64,", re.IGNORECASE)
_HEAD: Final = 40
"""Characters in which the head of a URL must end."""


def image_of(url: str, place: str) -> Image:
    """The image in a ``data:`` URL (RFC 2397). Raises InvalidRequest, which names ``place``."""
    head = _DATA.match(url[:_HEAD])
    if head is None:
        if url[:8].lower().startswith(("http:", "https:")):
            raise InvalidRequest(
                f"{place}: must be a data: URL with the image itself. The server fetches nothing "
                "from an address: it could be one in its own network."
            )
        raise InvalidRequest(
            f"{place}: must begin with data:image/png;base64, or the same with jpeg, gif or webp."
        )
    text = url[head.end() :]
    if len(text) > MAX_IMAGE_BYTES // 3 * 4 + 4:
        raise _too_large(place)
    try:
        data = a2b_base64(text, strict_mode=True)
    except (Error, ValueError):
        raise InvalidRequest(f"{place}: must be a data: URL of an image, in base64.") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise _too_large(place)
    kind = head[1].lower().replace("jpg", "jpeg")
    size = image_size(data)
    if size is None or size.kind != kind:
        raise InvalidRequest(f"{place}: must be a whole image of the type that the URL names.")
    if size.width * size.height > MAX_PIXELS:
        raise InvalidRequest(f"{place}: must be an image of at most {MAX_PIXELS:,} pixels.")
    return Image(media_type=f"image/{kind}", data=text, width=size.width, height=size.height)


def _too_large(place: str) -> InvalidRequest:
    return InvalidRequest(f"{place}: must be an image of at most {MAX_IMAGE_BYTES:,} bytes.")
