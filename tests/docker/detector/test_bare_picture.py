"""What is wrong with a remark in a file costs the remark, never the picture."""

import io
import struct
import zlib

import pytest
from PIL import Image

from detector.bare_picture import PNG_SIGNATURE, bare_picture
from detector.image_decoding import UnreadableImage, decode_image

COMMENT = b"c\0\0" + zlib.compress(bytes(900_000))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def encoded(form: str, **options) -> bytes:
    picture = Image.new("RGB", (40, 20), "blue")
    picture.paste("red", (0, 0, 20, 10))
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def png_with(*chunks: bytes, at: int = 33, **options) -> bytes:
    """Chunks behind the header, or `at` another place."""
    png = encoded("PNG", **options)
    return png[:at] + b"".join(chunks) + png[at:]


def jpeg_with(*segments: bytes, **options) -> bytes:
    jpeg = encoded("JPEG", **options)
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.parametrize(
    "content",
    [
        png_with(*[chunk(b"zTXt", COMMENT)] * 80),
        png_with(*[chunk(b"zTXt", COMMENT)] * 80, at=-12),
        png_with(*[chunk(b"iTXt", b"c\0\1\0\0\0" + COMMENT[3:])] * 80),
        png_with(chunk(b"zTXt", b"c\0\7unknown compression")),
        png_with(chunk(b"iCCP", b"c\0\5unknown compression")),
        jpeg_with(segment(0xE2, b"ICC_PROFILE\0")),
        jpeg_with(segment(0xEE, b"Adobe")),
        jpeg_with(segment(0xFE, b"a comment"), b"\xff\xff", segment(0xE2, b"ICC_PROFILE\0")),
        jpeg_with(segment(0xE0, b"JFIF")),
    ],
    ids="80_comments at_the_end 80_utf8 compression profile jpeg_profile adobe padded jfif".split(),
)
def test_a_picture_with_a_bad_remark_is_read(content):
    with pytest.raises((ValueError, OSError)):  # else the case shows nothing
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            picture.load()
    decoded = decode_image("meme", content=content)
    assert decoded.size == (40, 20)
    assert decoded.getpixel((5, 5))[0] > 200 and decoded.getpixel((35, 15))[2] > 200


def test_which_side_is_up_and_what_is_clear_is_no_remark():
    exif = Image.Exif()
    exif[0x0112] = 6
    for content in (
        png_with(chunk(b"zTXt", b"c\0\7unknown"), exif=exif),
        jpeg_with(segment(0xE2, b"ICC_PROFILE\0"), exif=exif),
    ):
        assert decode_image("meme", content=content).size == (20, 40)
    png = png_with(chunk(b"tRNS", struct.pack(">HHH", 255, 0, 0)), chunk(b"tEXt", b"a\0b"))
    assert b"tRNS" in bare_picture(io.BytesIO(png)) and b"tEXt" not in bare_picture(io.BytesIO(png))


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", PNG_SIGNATURE, b"\xff\xd8", b"\xff\xd8\xff\xe0", PNG_SIGNATURE * 9]
)
def test_what_is_no_picture_stays_none(content):
    with pytest.raises(UnreadableImage, match="not_an_image"):
        decode_image("meme", content=content)


def test_lengths_that_lie_end_the_picture_and_nothing_else():
    whole = encoded("PNG")
    for length in (0, 7, 2**31, 2**32 - 1):
        lying = whole[:33] + struct.pack(">I4s", length, b"tEXt") + whole[33:]
        assert bare_picture(io.BytesIO(lying)).startswith(whole[:33])
        lying = whole[:33] + struct.pack(">I4s", length, b"IDAT") + whole[33:]
        assert len(bare_picture(io.BytesIO(lying))) <= len(lying)
