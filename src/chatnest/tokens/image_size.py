"""ImageSize: the kind, width and height of an image, from its header. No I/O.

Pixels are never decoded. The size must be at least the one that a provider sees, so a file whose
headers contradict each other has no size. Sources:

- PNG: the W3C's PNG specification, sections 5 and 11.2.1. An animated PNG has the size of IHDR.
- JPEG: ITU-T T.81, annex B. The size is in the frame header (SOF), before the first scan.
- GIF: GIF89a, sections 18 and 20. A frame may be larger than the screen; decoders enlarge it.
- WebP: RFC 9649, section 2. A VP8X header and the frame after it have a size each.

Orientation in EXIF does not matter here, because every rule for images is symmetric in the sides.
"""

import re
from typing import Final, Literal

import msgspec

__all__ = ["MAX_STEPS", "ImageKind", "ImageSize", "image_size"]

ImageKind = Literal["gif", "jpeg", "png", "webp"]
"""A format that every provider with images accepts; ``image/`` and the kind is its media type."""

MAX_STEPS: Final = 4_096
"""Maximum segments, chunks or blocks that are read. A file with more before its size has none. A
JPEG with 10 MB of metadata has about 160.
"""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_IHDR: Final = b"\x00\x00\x00\x0dIHDR"
"""The start of the first chunk: its length and its name."""
_LARGEST: Final = 2**31 - 1
"""Maximum of a side and of a chunk in a PNG."""

_MARKER: Final = re.compile(rb"\xff+([^\xff])", re.DOTALL)
"""A marker of JPEG, after any number of fill bytes."""
_SCAN: Final = 0xDA
_FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15, without DHT, JPG and DAC."""
_FRAME_BYTES: Final = 8
"""Minimum length of a frame header."""
_BARE: Final = {0x01, *range(0xD0, 0xD8)}
"""Markers without a segment that decoders skip: TEM, and RST0 to RST7."""
_SEGMENTS: Final = {*range(0xC0, 0xFF)} - _BARE - {0xD8, 0xD9}
"""Markers with a segment that starts with its length. SOI and EOI are not expected here."""

_SCREEN_BYTES: Final = 13
"""Bytes of a GIF before its colors: its name and its screen."""
_FRAME_HEAD_BYTES: Final = 10
"""Bytes of a frame's header in a GIF."""
_EXTENSION: Final = b"!"
_FRAME: Final = b","

_WEBP_FRAMES: Final = {b"VP8 ": 10, b"VP8L": 5, b"ANMF": 12}
"""The chunks of WebP that have a frame, and the bytes of each that are read."""


class ImageSize(msgspec.Struct, frozen=True, gc=False):
    """An image's kind, from its first bytes, and its size in pixels; both sides are positive."""

    kind: ImageKind
    width: int
    height: int


def image_size(data: bytes) -> ImageSize | None:
    """The kind and the size of an image, or None if its headers do not determine them.

    It never raises, and reads at most MAX_STEPS headers. Compare the kind with the declared media
    type.
    """
    found: tuple[int, int] | None
    kind: ImageKind
    if data.startswith(_PNG):
        kind, found = "png", _png(data)
    elif data.startswith(b"\xff\xd8\xff"):
        kind, found = "jpeg", _jpeg(data)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        kind, found = "gif", _gif(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kind, found = "webp", _webp(data)
    else:
        return None
    return ImageSize(kind, *found) if found is not None and min(found) > 0 else None


def _png(data: bytes) -> tuple[int, int] | None:
    """IHDR is the first chunk. Some decoders obey a second one, so a file with two has no size."""
    place = len(_PNG)
    if data[place : place + len(_IHDR)] != _IHDR:
        return None
    size = _big(data, place + 8, 4), _big(data, place + 12, 4)
    for _ in range(MAX_STEPS):
        length = _big(data, place, 4)
        place += length + 12  # with its length, its name and its checksum
        name = data[place + 4 : place + 8]
        if name == b"IDAT":
            return size if max(size) <= _LARGEST else None
        if name == b"IHDR" or length > _LARGEST or not name:
            return None
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """The frame header before the first scan. Some decoders obey the second of two frame headers,
    so a file with two has no size. A file whose height comes later (DNL) has a height of 0 here.
    """
    place = 2
    size: tuple[int, int] | None = None
    for _ in range(MAX_STEPS):
        match = _MARKER.match(data, place)
        if match is None or match[1][0] not in _SEGMENTS | _BARE:
            return None
        marker, place = match[1][0], match.end()
        if marker == _SCAN:
            return size
        if marker in _BARE:
            continue
        length = _big(data, place, 2)
        if marker in _FRAMES:
            if size is not None or length < _FRAME_BYTES:
                return None
            size = _big(data, place + 5, 2), _big(data, place + 3, 2)
        place += max(length, 2)
    return None


def _gif(data: bytes) -> tuple[int, int] | None:
    """The screen, enlarged by the first frame. Providers use no other frame of an animation."""
    screen = data[:_SCREEN_BYTES]
    if len(screen) < _SCREEN_BYTES:
        return None
    place, steps = _SCREEN_BYTES + _colors(screen[10]), 0
    while data[place : place + 1] == _EXTENSION:  # a label, blocks with their lengths, and a 0
        place += 2
        while (block := _little(data, place, 1)) and steps < MAX_STEPS:
            place, steps = place + 1 + block, steps + 1
        place, steps = place + 1, steps + 1
        if steps > MAX_STEPS:
            return None
    frame = data[place : place + _FRAME_HEAD_BYTES]
    if len(frame) < _FRAME_HEAD_BYTES or not frame.startswith(_FRAME):
        return None
    right = _little(frame, 1, 2) + _little(frame, 5, 2)
    bottom = _little(frame, 3, 2) + _little(frame, 7, 2)
    return max(_little(screen, 6, 2), right), max(_little(screen, 8, 2), bottom)


def _colors(packed: int) -> int:
    """The bytes of a GIF's color table."""
    return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0


def _webp(data: bytes) -> tuple[int, int] | None:
    """The larger of the canvas and of the first frame. Decoders reject a still image in which they
    differ, and frames of an animation that are larger than the canvas.
    """
    place, width, height = 12, 0, 0
    for _ in range(MAX_STEPS):
        name, length = data[place : place + 4], _little(data, place + 4, 4)
        head = data[place + 8 : place + 20]
        if not head:
            return None
        if name == b"VP8X":
            width = max(width, _little(head, 4, 3) + 1)
            height = max(height, _little(head, 7, 3) + 1)
        elif name in _WEBP_FRAMES:
            frame = _webp_frame(name, head)
            return frame and (max(width, frame[0]), max(height, frame[1]))
        place += 8 + length + (length & 1)
    return None


def _webp_frame(name: bytes, head: bytes) -> tuple[int, int] | None:
    """The size of a frame, from the first bytes of its chunk."""
    if len(head) < _WEBP_FRAMES[name]:
        return None
    if name == b"ANMF":
        return _little(head, 6, 3) + 1, _little(head, 9, 3) + 1
    if name == b"VP8L" and head.startswith(b"\x2f"):
        bits = _little(head, 1, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and not head[0] & 1:  # a key frame
        return _little(head, 6, 2) & 0x3FFF, _little(head, 8, 2) & 0x3FFF
    return None


def _big(data: bytes, place: int, size: int) -> int:
    """A number, most significant byte first. It is too small if the data ends in it."""
    return int.from_bytes(data[place : place + size], "big")


def _little(data: bytes, place: int, size: int) -> int:
    """A number, least significant byte first. It is too small if the data ends in it."""
    return int.from_bytes(data[place : place + size], "little")
