"""The size of an image comes from its header, is never too small, and costs little to read."""

import struct
import sys
import zlib
from base64 import b64decode
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatnest.tokens.image_size import MAX_STEPS, ImageSize, image_size

# ---------------------------------------------------------------- files, written by hand


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def ihdr(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png(width: int, height: int, *, between: bytes = b"") -> bytes:
    return b"\x89PNG\r\n\x1a\n" + ihdr(width, height) + between + chunk(b"IDAT", b"x")


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def frame(width: int, height: int, marker: int = 0xC0) -> bytes:
    return segment(marker, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")


SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"pixels\xff\xd9"


def jpeg(width: int, height: int, *, before: bytes = b"", marker: int = 0xC0) -> bytes:
    return b"\xff\xd8" + before + frame(width, height, marker) + SCAN


def gif_frame(left: int, top: int, width: int, height: int) -> bytes:
    return struct.pack("<cHHHHB", b",", left, top, width, height, 0) + b"\x02\x02\x44\x01\x00"


def extension(label: int, *blocks: bytes) -> bytes:
    return bytes((0x21, label)) + b"".join(bytes((len(b),)) + b for b in blocks) + b"\x00"


def gif(width: int, height: int, *blocks: bytes, packed: int = 0) -> bytes:
    colors = b"\x00\x00\x00" * 2 ** ((packed & 7) + 1) if packed & 0x80 else b""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, packed, 0, 0) + colors
    return screen + b"".join(blocks or (gif_frame(0, 0, width, height),)) + b";"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) & 1)
        for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8 ", b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + b"pixels"


def vp8l(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)


def u24(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def vp8x(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8X", b"\x00\x00\x00\x00" + u24(width - 1) + u24(height - 1)


def anmf(width: int, height: int) -> tuple[bytes, bytes]:
    return b"ANMF", bytes(6) + u24(width - 1) + u24(height - 1) + bytes(4)


WRITERS: dict[str, tuple[Callable[[int, int], bytes], int]] = {
    "png": (png, 2**31 - 1),
    "jpeg": (jpeg, 65_535),
    "progressive jpeg": (lambda w, h: jpeg(w, h, marker=0xC2), 65_535),
    "gif": (gif, 65_535),
    "webp lossy": (lambda w, h: riff(vp8(w, h)), 16_383),
    "webp lossless": (lambda w, h: riff(vp8l(w, h)), 16_384),
    "webp extended": (lambda w, h: riff(vp8x(w, h), (b"ICCP", b"odd"), vp8(w, h)), 16_383),
    "webp animated": (lambda w, h: riff(vp8x(w, h), (b"ANIM", bytes(6)), anmf(1, 1)), 2**24),
}

# Files that encoders wrote, each of a few pixels.
REAL = {
    "png": (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    ),
    "gif": "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "webp": "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==",
}
SMALLEST_LOSSLESS_WEBP = "UklGRhIAAABXRUJQVlA4TAYAAAAvQWxvAGs="


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
def test_width_and_height_come_out_as_they_were_written(name, data):
    write, largest = WRITERS[name]
    width, height = data.draw(st.tuples(*[st.integers(1, largest)] * 2), "size")

    found = image_size(write(width, height))
    assert found is not None
    assert found.kind in name.split()
    assert (found.width, found.height) == (width, height)


@pytest.mark.parametrize("kind", REAL)
def test_files_of_real_encoders_are_read(kind):
    assert image_size(b64decode(REAL[kind])) == ImageSize(kind, 1, 1)


def test_a_frame_of_a_few_bytes_is_read():
    found = image_size(b64decode(SMALLEST_LOSSLESS_WEBP))

    assert found is not None
    assert found.kind == "webp"


# ---------------------------------------------------------------- what stands beside the size


def thumbnail() -> bytes:
    """EXIF with an orientation and with a small image of its own."""
    return segment(0xE1, b"Exif\x00\x00MM\x00*\x01\x12\x00\x06" + jpeg(160, 120))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(30, 20, between=chunk(b"acTL", bytes(8)) + chunk(b"tEXt", b"k\0v")), (30, 20)),
        (jpeg(30, 20, before=thumbnail()), (30, 20)),
        (jpeg(30, 20, before=segment(0xC4, b"DHT") + segment(0xCC, b"DAC")), (30, 20)),
        (jpeg(30, 20, before=b"\xff" * 100_000 + segment(0xFE, b"fill bytes")[1:]), (30, 20)),
        (jpeg(30, 20, before=b"\xff\x01\xff\xd0"), (30, 20)),
        (jpeg(30, 20) + jpeg(4_000, 3_000), (30, 20)),
        (gif(30, 20, gif_frame(0, 0, 30, 20), gif_frame(5, 5, 9, 9), packed=0xF7), (30, 20)),
        (gif(3, 2, extension(0xF9, bytes(4)), extension(0xFE), gif_frame(0, 0, 1, 1)), (3, 2)),
        (gif(3, 2, extension(0xFE, *[b"x" * 255] * 50), gif_frame(0, 0, 3, 2)), (3, 2)),
        (riff(vp8(30 | 0x4000, 20 | 0x8000)), (30, 20)),  # the upper bits scale the display
    ],
)
def test_what_stands_beside_the_size_does_not_change_it(data, expected):
    found = image_size(data)

    assert found is not None
    assert (found.width, found.height) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gif(1, 1, gif_frame(0, 0, 4_000, 3_000)), (4_000, 3_000)),
        (gif(1, 1, gif_frame(60_000, 7, 4_000, 3_000)), (64_000, 3_007)),
        (riff(vp8x(1, 1), vp8(4_000, 3_000)), (4_000, 3_000)),
        (riff(vp8x(1, 1), vp8l(4_000, 3_000)), (4_000, 3_000)),
        (riff(vp8x(1, 3_000), anmf(4_000, 1)), (4_000, 3_000)),
        (riff(vp8x(4_000, 1), vp8x(1, 3_000), vp8(2, 2)), (4_000, 3_000)),
    ],
)
def test_of_two_sizes_in_a_file_the_larger_one_counts(data, expected):
    found = image_size(data)

    assert found is not None
    assert (found.width, found.height) == expected


# ---------------------------------------------------------------- files without a size


@pytest.mark.parametrize(
    "data",
    [
        png(0, 20),
        png(30, 0),
        png(2**31, 20),
        png(30, 20, between=ihdr(4_000, 3_000)),
        png(30, 20, between=b"\xff\xff\xff\xff"),
        b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)) + png(30, 20)[8:],
        b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x") + png(30, 20)[8:],
        jpeg(0, 20),
        jpeg(30, 0),  # its height would come after the scan
        jpeg(30, 20, before=frame(4_000, 3_000)),
        jpeg(30, 20, before=frame(4_000, 3_000, 0xC2)),
        jpeg(30, 20, before=b"junk"),
        jpeg(30, 20, before=b"\xff\xd8"),
        jpeg(30, 20, before=b"\xff\x00"),
        b"\xff\xd8" + SCAN + frame(30, 20),
        b"\xff\xd8" + segment(0xC0, b"\x08\x00\x14\x00\x1e") + SCAN,
        gif(0, 0),
        gif(30, 20, b"junk"),
        gif(30, 20, extension(0xFE, b"no frame")),
        riff((b"VP8 ", b"\x10\x00\x00no start code")),
        riff((b"VP8 ", b"\x11" + vp8(30, 20)[1][1:])),  # not a key frame
        riff((b"VP8L", b"\x30" + bytes(9))),
        riff(vp8x(30, 20)),
        riff((b"VP8 ", vp8(0, 20)[1])),
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"<svg width='30' height='20'/>",
        b"BM" + bytes(60),
        b"",
    ],
)
def test_a_file_whose_headers_do_not_determine_its_size_has_none(data):
    assert image_size(data) is None


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_ends_in_its_header_has_no_size(name):
    whole = WRITERS[name][0](300, 200)
    for length in range(len(whole)):
        assert image_size(whole[:length]) in (None, image_size(whole)), length


MANY = 1_000_000


HOSTILE: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(30, 20, between=chunk(b"tEXt", b"") * MANY),
    "jpeg": lambda: jpeg(30, 20, before=segment(0xE0, b"") * MANY),
    "jpeg, bare": lambda: jpeg(30, 20, before=b"\xff\xd0" * MANY),
    "gif": lambda: gif(30, 20, extension(0xFE) * MANY, gif_frame(0, 0, 30, 20)),
    "gif, blocks": lambda: gif(30, 20, extension(0xFE, *[b"x"] * MANY), gif_frame(0, 0, 30, 20)),
    "webp": lambda: riff(*[(b"EXIF", b"")] * MANY, vp8(30, 20)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_million_headers_cost_a_bounded_number_of_steps(name):
    data, lines = HOSTILE[name](), 0

    def count(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        assert image_size(data) is None
    finally:
        sys.settrace(before)

    assert lines < 20 * MAX_STEPS


@given(
    start=st.sampled_from(
        [b"", *(write(300, 200)[:n] for write, _ in WRITERS.values() for n in (12, 21, 30))]
    ),
    rest=st.binary(max_size=200),
)
@example(start=b"GIF89a", rest=b"")
@example(start=b"RIFF0000WEBP", rest=b"VP8X\xff\xff\xff\xff")
def test_no_bytes_make_it_raise_or_give_a_size_without_pixels(start, rest):
    found = image_size(start + rest)

    assert found is None or min(found.width, found.height) > 0


@pytest.mark.parametrize("name", WRITERS)
@given(place=st.integers(0, 200), byte=st.integers(0, 255))
def test_nor_does_a_damaged_file(name, place, byte):
    data = bytearray(WRITERS[name][0](300, 200))
    data[place % len(data)] = byte

    found = image_size(bytes(data))
    assert found is None or min(found.width, found.height) > 0
