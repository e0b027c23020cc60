"""A PNG or a JPEG without its remarks: comments, colour profiles, whatever else is no part of the picture.

Pillow refuses a whole file for what is wrong with a remark (too many comments, an unknown compression, a profile that
is cut off); viewers skip it. What it refused is tried once more with the parts alone that a picture is made of.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Header, palette, pixels, end; which colour is clear; which side is up; the frames of an animation.
PNG_PARTS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
JPEG_START = b"\xff\xd8"
START_OF_SCAN = 0xDA
EXIF, EXIF_MARKER = b"Exif\0\0", 0xE1
# Says how colours were turned; useless where it is cut off.
ADOBE, ADOBE_MARKER, ADOBE_BYTES = b"Adobe", 0xEE, 12
# Held in memory while it is decoded.
MAX_BYTES = 256 * 2**20


def bare_picture(file: BinaryIO) -> bytes | None:
    """The picture's own parts; None where it is neither PNG nor JPEG, or larger than MAX_BYTES without remarks."""
    file.seek(0)
    start = file.read(len(PNG_SIGNATURE))
    if start == PNG_SIGNATURE:
        parts, kept = _png_parts(file), bytearray(PNG_SIGNATURE)
    elif start.startswith(JPEG_START):
        file.seek(len(JPEG_START))
        parts, kept = _jpeg_parts(file), bytearray(JPEG_START)
    else:
        return None
    for part in parts:
        kept += part
        if len(kept) > MAX_BYTES:
            return None
    return bytes(kept)


def _png_parts(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in PNG_PARTS:
            yield head + file.read(min(length, MAX_BYTES) + 4)  # with its checksum
        else:
            file.seek(length + 4, 1)
        if kind == b"IEND":
            return


def _jpeg_parts(file: BinaryIO) -> Iterator[bytes]:
    """Segments up to the first scan, then all that follows."""
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        marker, length = struct.unpack(">xBH", head)
        if marker == 0xFF:  # padding
            file.seek(-3, 1)
            continue
        content = file.read(max(0, length - 2))
        is_remark = marker == 0xFE or 0xE0 <= marker <= 0xEF
        is_exif = marker == EXIF_MARKER and content.startswith(EXIF)
        is_adobe = marker == ADOBE_MARKER and content.startswith(ADOBE) and len(content) >= ADOBE_BYTES
        if not is_remark or is_exif or is_adobe:
            yield head + content
        if marker == START_OF_SCAN:
            yield file.read(MAX_BYTES)
            return
