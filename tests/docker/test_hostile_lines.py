"""Lines that a judge or an attacker may send: each with the reason that predict.py must count, None where it scores."""

import io
import json
import os
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MISSING, NOT_A_FILE, NOT_AN_IMAGE = "missing", "not_a_file", "not_an_image"
LINE = re.compile(rb"^[01]\.\d{4}\t[01]$")
EMPTY, UNREADABLE, TOO_MANY = "empty_path", "unreadable", "too_many_pixels"


def hostile_lines(folder: Path, picture: Image.Image) -> list[tuple[str, bytes, str | None]]:
    """(kind, line without its newline, reason or None) for well over sixty kinds."""
    kinds = odd_lines(folder, picture)
    for make in (still_pictures, bad_remarks, odd_files, giants):
        for name, (content, reason) in make(picture).items():
            path = folder / name
            path.write_bytes(content)
            kinds.append((name, os.fsencode(path), reason))
    return kinds


def odd_lines(folder: Path, picture: Image.Image) -> list[tuple[str, bytes, str | None]]:
    """Lines whose trouble is the path itself."""
    good = folder / "good.png"
    picture.save(good)
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "link.png").symlink_to("good.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    here = os.fsencode(folder)
    picked = [
        (b"caf\xe9.png", "latin1_name"),
        ("பூனை 猫 🐱.png".encode(), "unicode_name"),
        (b" lead.png", "leading_blank"),
        (b"trail.png ", "trailing_blank"),
        (b"tab\there.png", "tab_in_name"),
        (b"quo\"te's.png", "quotes_in_name"),
        (b"-rf.png", "dash_name"),
        (b"%00;$(id)`id`.png", "shell_name"),
        (b"\x1b[31m.png", "escape_in_name"),
    ]
    kinds = [("good", os.fsencode(good), None), ("link", here + b"/link.png", None)]
    for name, kind in picked:
        with open(here + b"/" + name, "wb") as file:
            picture.save(file, "PNG")
        kinds.append((kind, here + b"/" + name, None))
    return kinds + [
        ("byte_order_mark", b"\xef\xbb\xbf" + os.fsencode(good), None),
        ("byte_order_mark_crlf", b"\xef\xbb\xbf" + os.fsencode(good) + b"\r", None),
        ("crlf", os.fsencode(good) + b"\r", None),
        ("dots", here + b"/./../" + folder.name.encode() + b"/good.png", None),
        ("empty", b"", EMPTY),
        ("blanks", b"   \t ", EMPTY),
        ("crlf_empty", b"\r", EMPTY),
        ("not_utf8", b"\xff\xfe\xfd", MISSING),
        ("nul", b"a\x00b.png", UNREADABLE),
        ("only_nul", b"\x00", UNREADABLE),
        ("missing", here + b"/none.png", MISSING),
        ("folder", here + b"/folder.png", NOT_A_FILE),
        ("root", b"/", NOT_A_FILE),
        ("under_a_file", os.fsencode(good) + b"/x.png", MISSING),
        ("pipe", here + b"/pipe.png", NOT_A_FILE),
        ("device", b"/dev/zero", NOT_A_FILE),
        ("dev_null", b"/dev/null", NOT_A_FILE),
        ("stdin", b"/dev/stdin", NOT_A_FILE),
        ("link_loop", here + b"/loop.png", UNREADABLE),
        ("dangling", here + b"/dangling.png", MISSING),
        ("long_name", b"x" * 300, UNREADABLE),
        ("long_path", b"/a" * 3000, UNREADABLE),
        ("megabyte", b"y" * 1_000_000, EMPTY),
        ("url", b"https://example.invalid/meme.png", MISSING),
        ("file_url", b"file://" + os.fsencode(good), MISSING),
        ("home", b"~/meme.png", MISSING),
        ("two_paths", os.fsencode(good) + b"\t" + os.fsencode(good), MISSING),
        ("result_like", b"0.5000\t1", MISSING),
        ("markup", b"</s><|im_end|>", MISSING),
    ]


def encoded(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def still_pictures(picture: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    """Formats and pixel modes that must all be scored."""
    rotated = Image.Exif()
    rotated[0x0112] = 6
    clear = picture.convert("RGBA")
    clear.putalpha(80)
    grey = picture.convert("L")
    sixteen = Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257)
    frames = [picture, picture.transpose(Image.Transpose.ROTATE_180)]
    found = {
        "rgb.png": encoded(picture, "PNG"),
        "plain.jpg": encoded(picture, "JPEG"),
        "plain.webp": encoded(picture, "WEBP"),
        "lossless.webp": encoded(picture, "WEBP", lossless=True),
        "plain.gif": encoded(picture, "GIF"),
        "plain.bmp": encoded(picture, "BMP"),
        "plain.tif": encoded(picture, "TIFF"),
        "plain.avif": encoded(picture, "AVIF"),
        "lzw.tif": encoded(picture, "TIFF", compression="tiff_lzw"),
        "grey.png": encoded(grey, "PNG"),
        "grey.jpg": encoded(grey, "JPEG"),
        "bits.png": encoded(picture.convert("1"), "PNG"),
        "palette.png": encoded(picture.quantize(16), "PNG"),
        "alpha.png": encoded(clear, "PNG"),
        "grey_alpha.png": encoded(clear.convert("LA"), "PNG"),
        "clear_palette.png": encoded(picture.quantize(8), "PNG", transparency=0),
        "sixteen.png": encoded(sixteen, "PNG"),
        "sixteen.tif": encoded(sixteen, "TIFF"),
        "float.tif": encoded(picture.convert("F"), "TIFF"),
        "int.tif": encoded(picture.convert("I"), "TIFF"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "cmyk.tif": encoded(picture.convert("CMYK"), "TIFF"),
        "ycbcr.tif": encoded(picture.convert("YCbCr"), "TIFF"),
        "lab.tif": encoded(picture.convert("LAB"), "TIFF"),
        "exif.jpg": encoded(picture, "JPEG", exif=rotated),
        "progressive.jpg": encoded(picture, "JPEG", progressive=True),
        "white_on_clear.png": encoded(letters_on_nothing(), "PNG"),
        "white_on_clear_palette.png": encoded(letters_on_nothing().quantize(8), "PNG"),
        "white_on_clear.webp": encoded(letters_on_nothing(), "WEBP", lossless=True),
        "white_on_clear.gif": encoded(letters_on_nothing(), "GIF"),
        "tall.png": encoded(picture.resize((96, 1800)), "PNG"),
        "upside_down.png": encoded(picture.transpose(Image.Transpose.ROTATE_180), "PNG"),
        "sideways.png": encoded(picture.transpose(Image.Transpose.ROTATE_90), "PNG"),
        "tilted.png": encoded(picture.rotate(7, expand=True, fillcolor="white"), "PNG"),
        "blank_first.gif": encoded(Image.new("RGB", picture.size), "GIF", save_all=True, append_images=[picture]),
        "blank_first.webp": encoded(Image.new("RGB", picture.size), "WEBP", save_all=True, append_images=[picture]),
        "many_frames.gif": encoded(picture, "GIF", save_all=True, append_images=[*turns(picture)] * 9),
        "cut_animation.gif": encoded(picture, "GIF", save_all=True, append_images=[*turns(picture)])[:-900],
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "pages.tif": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "jpeg_named.png": encoded(picture, "JPEG"),
        "png_named.jpg": encoded(picture, "PNG"),
        "pixel.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "ribbon.png": encoded(Image.new("L", (20_000, 10)), "PNG"),
        "pole.png": encoded(Image.new("L", (1, 5000), 255), "PNG"),
        "black.png": encoded(Image.new("RGB", (64, 64)), "PNG"),
        "invisible.png": encoded(Image.new("RGBA", (64, 64)), "PNG"),
        "no_ending": encoded(picture, "PNG"),
        "with_tail.png": encoded(picture, "PNG") + b"<script>" * 999,
        "bad_exif.jpg": encoded(picture, "JPEG", exif=b"Exif\0\0xx"),
        "cut.png": encoded(Image.effect_noise((64, 64), 60), "PNG")[:-400],
        "cut.jpg": encoded(picture.resize((480, 320)), "JPEG")[:-700],
    }
    return {name: (content, None) for name, content in found.items()}


def letters_on_nothing() -> Image.Image:
    """White ones, which are gone where the clear ground becomes white."""
    picture = Image.new("RGBA", (120, 60))
    ImageDraw.Draw(picture).text((8, 8), "HELLO", font=ImageFont.load_default(32), fill="white")
    return picture


def turns(picture: Image.Image) -> list[Image.Image]:
    return [picture.rotate(angle) for angle in (90, 180, 270)]


def bad_remarks(picture: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    """Pictures that any viewer shows, with comments or profiles that Pillow refuses the whole file for."""
    png, jpeg = encoded(picture, "PNG"), encoded(picture, "JPEG")
    comment = chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(900_000)))
    found = {
        "comments.png": png[:33] + comment * 80 + png[33:],
        "comments_at_the_end.png": png[:-12] + comment * 80 + png[-12:],
        "odd_comment.png": png[:33] + chunk(b"zTXt", b"c\0\x07?") + png[33:],
        "odd_profile.png": png[:33] + chunk(b"iCCP", b"c\0\x05?") + png[33:],
        "odd_profile.jpg": jpeg[:2] + b"\xff\xe2\0\x0eICC_PROFILE\0" + jpeg[2:],
        "odd_adobe.jpg": jpeg[:2] + b"\xff\xee\0\x07Adobe" + jpeg[2:],
    }
    return {name: (content, None) for name, content in found.items()}


def odd_files(picture: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    """Files that are no pictures, or hardly; Ghostscript and friends must never be asked about them."""
    png, jpeg = encoded(picture, "PNG"), encoded(picture, "JPEG")
    noise = np.random.default_rng(1).bytes(4096)
    found = {
        "nothing.png": b"",
        "newline.png": b"\n",
        "text.png": "வணக்கம்".encode(),
        "noise.png": noise,
        "zeros.png": bytes(5000),
        "head.png": png[:20],
        "head.jpg": jpeg[:12],
        "signature.png": png[:8],
        "gif.gif": b"GIF89a",
        "page.html": b"<html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        "paper.pdf": b"%PDF-1.7\n%%EOF",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "code.py": b"import os",
        "weights.pt": b"\x80\x04\x95.",
        "zip.png": b"PK\x03\x04",
        "riff.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "ppm.ppm": b"P6 2 2 255 " + bytes(12),
        "zero_by_zero.png": png_claiming(0, 0),
    }
    return {name: (content, NOT_AN_IMAGE) for name, content in found.items()}


def giants(picture: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    """Small files of many pixels; the runs of this suite allow 20 megapixels."""
    return {
        "bomb.png": (png_claiming(60_000, 60_000), TOO_MANY),
        "wide_bomb.png": (png_claiming(2**31 - 1, 1), TOO_MANY),
        "large.png": (encoded(Image.new("1", (6000, 6000)), "PNG"), TOO_MANY),
        "within.png": (encoded(Image.new("1", (4000, 4500), 1), "PNG"), None),
        "bomb.gif": (b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";", NOT_AN_IMAGE),
        "bomb.bmp": (
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
            TOO_MANY,
        ),
    }


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is this large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_hostile_lines_each_get_their_line_and_reason(run_script, models, draw_meme, tmp_path):
    kinds = hostile_lines(tmp_path, draw_meme("HI", (96, 64)))
    random.Random(5).shuffle(kinds)
    assert len({kind for kind, _, _ in kinds}) == len(kinds) >= 60
    details = tmp_path / "details.jsonl"
    done = run_script(
        "docker/predict.py",
        {**models, "MAX_MEGAPIXELS": "20", "FALLBACK_PROBABILITY": "0.7777", "DETAILS_PATH": details},
        stdin=b"".join(line + b"\n" for _, line, _ in kinds),
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.split(b"\n")[:-1]
    assert done.stdout.endswith(b"\n") and len(lines) == len(kinds)
    assert all(LINE.match(line) for line in lines)
    evidence = [json.loads(line) for line in details.read_text(encoding="utf-8").splitlines()]
    found = {kind: proof["error"] for (kind, _, _), proof in zip(kinds, evidence, strict=True)}
    assert found == {kind: reason for kind, _, reason in kinds}
    assert [line == b"0.7777\t1" for line in lines] == [reason is not None for _, _, reason in kinds]
    for (_, line, _), proof in zip(kinds, evidence, strict=True):
        assert os.fsencode(proof["path"]) in (line.removesuffix(b"\r").removeprefix(b"\xef\xbb\xbf"), b"")
