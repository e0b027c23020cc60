"""Pictures of every kind come out upright, RGB, on white and of bounded size; no bytes get past UnreadableImage."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from detector.image_decoding import KEPT_PIXELS, MAX_SIDE, UnreadableImage, decode_frames, decode_image


def saved(picture: Image.Image, path, **options):
    picture.save(path, **options)
    return str(path)


def corner(picture: Image.Image, x=0, y=0) -> tuple[int, ...]:
    return picture.getpixel((x, y))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation, tmp_path):
    upright = Image.new("RGB", (40, 20), "blue")
    upright.paste("red", (0, 0, 20, 10))
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Image.Transpose that the camera applied
    turned = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(saved(turned, tmp_path / "turned.png", exif=exif))
    assert decoded.size == (40, 20)
    assert corner(decoded, 5, 5) == (255, 0, 0) and corner(decoded, 35, 15) == (0, 0, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_clear_becomes_white(mode, tmp_path):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture = clear.convert(mode) if mode != "P" else clear.quantize(4)
    assert corner(decode_image(saved(picture, tmp_path / "clear.png"))) == (255, 255, 255)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_sixteen_bits_are_scaled_not_clipped(name, tmp_path):
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, axis=0)
    decoded = np.asarray(decode_image(saved(Image.fromarray(ramp), tmp_path / name)))
    assert decoded[0, ::51, 0].tolist() == pytest.approx([0, 51, 102, 153, 204, 255], abs=1)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.avif", "a.tif"])
def test_frames_in_which_something_new_stands_are_read(name, tmp_path, draw_meme):
    blank, words, others = Image.new("RGB", (320, 240), (70, 120, 90)), draw_meme("HELLO"), draw_meme("\n\nBYE")
    path = saved(blank, tmp_path / name, save_all=True, append_images=[blank, words, words, blank, others, words])
    found = decode_frames(path)
    assert found.unseen == 0 and len(found.pictures) == 3 and found.numbers == sorted(found.numbers)
    assert [picture.getextrema()[0][1] > 200 for picture in found.pictures] == [False, True, True]
    assert decode_image(path).tobytes() == found.pictures[0].tobytes()


def test_what_is_not_looked_at_is_counted(tmp_path, draw_meme):
    frames = [draw_meme(str(number) * 4) for number in range(10)]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode_frames(path, most=3).unseen == pytest.approx(0.7)
    assert len(decode_frames(path, most=3).pictures) == 3
    large = Image.new("L", (4000, 5000))
    large.paste(255, (0, 0, 900, 900))
    path = saved(large, tmp_path / "a.tif", save_all=True, append_images=[large.rotate(180)] * 3)
    found = decode_frames(path)
    assert (len(found.pictures), found.unseen) == (1, 0.75)


def test_a_frame_that_is_damaged_ends_the_animation(tmp_path, draw_meme):
    frames = [draw_meme(text) for text in ("HELLO", "BYE", "KOPI")]
    path = saved(frames[0], tmp_path / "a.png", save_all=True, append_images=frames[1:])
    content = open(path, "rb").read()
    second = content.index(b"fdAT")
    found = decode_frames("meme", content=content[: second + 30])
    assert len(found.pictures) >= 1 and corner(found.pictures[0]) == (70, 120, 90)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "palette", "LA", "colour_key"])
@pytest.mark.parametrize(("letters", "ground"), [("white", 0), ("black", 255), ("yellow", 0), ("both", 128)])
def test_letters_on_nothing_are_laid_on_what_they_stand_out_from(form, letters, ground):
    picture = Image.new("RGBA", (200, 120))
    pen = ImageDraw.Draw(picture)
    for place, colour in (
        (10, "white" if letters == "both" else letters),
        (60, "black" if letters == "both" else letters),
    ):
        pen.text((10, place), "HELLO", font=ImageFont.load_default(36), fill=colour)
    buffer = io.BytesIO()
    if form == "palette":
        picture.quantize(8).save(buffer, "PNG")
    elif form == "LA":
        picture.convert("LA").save(buffer, "PNG")
    elif form == "colour_key":
        keyed = Image.new("RGB", picture.size, "teal")
        keyed.paste(picture, mask=picture.getchannel("A").point(lambda level: 255 * (level > 127)))
        keyed.save(buffer, "PNG", transparency=(0, 128, 128))
    else:
        picture.save(buffer, form, **({"lossless": True} if form == "WEBP" else {}))
    decoded = decode_image("meme", content=buffer.getvalue())
    assert corner(decoded) == (ground,) * 3


def test_an_outlined_sticker_stays_on_white():
    picture = Image.new("RGBA", (200, 80))
    style = {"font": ImageFont.load_default(40), "fill": "white", "stroke_width": 3, "stroke_fill": "black"}
    ImageDraw.Draw(picture).text((10, 10), "HELLO", **style)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    assert corner(decode_image("meme", content=buffer.getvalue())) == (255, 255, 255)


@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [("large.jpg", (6000, 3000), "L"), ("large.png", (5000, 2500), "1"), ("large_palette.png", (4000, 2000), "P")],
)
def test_large_pictures_are_reduced_in_proportion(name, size, mode, tmp_path):
    decoded = decode_image(saved(Image.new(mode, size, 1), tmp_path / name))
    assert decoded.mode == "RGB" and max(decoded.size) == MAX_SIDE
    assert decoded.size[1] == pytest.approx(MAX_SIDE * size[1] / size[0], abs=1)


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        ((20_000, 10), (20_000, 10)),
        ((800, 12_800), (800, 12_800)),
        ((2500, 10_000), (1000, 4000)),
        ((2000, 50_000), (980, 24_495)),
        ((1000, 2400), (833, 2000)),
    ],
)
def test_a_strip_is_measured_by_its_shorter_side(size, kept, tmp_path):
    assert decode_image(saved(Image.new("1", size, 1), tmp_path / "strip.png")).size == kept


def test_pixels_are_counted_before_they_are_decoded(tmp_path):
    path = saved(Image.new("1", (1000, 1000)), tmp_path / "million.png")
    assert decode_image(path, max_pixels=1_000_000).size == (1000, 1000)
    with pytest.raises(UnreadableImage, match="too_many_pixels"):
        decode_image(path, max_pixels=999_999)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=20), cut=st.integers(0, 3000))
def test_damaged_files_decode_or_are_refused(form, edits, cut, tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((24, 24), 90).convert("RGB").save(buffer, form)
    content = bytearray(buffer.getvalue())
    for position, value in edits:
        content[position % len(content)] = value
    path = tmp_path / "damaged"
    path.write_bytes(content[: max(1, len(content) - cut)])
    try:
        pictures = decode_frames(str(path), max_pixels=4_000_000).pictures
    except UnreadableImage as refused:
        assert refused.reason in ("not_an_image", "too_many_pixels")
    else:
        for picture in pictures:
            assert picture.mode == "RGB" and picture.width * picture.height <= KEPT_PIXELS * 1.01


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_or_decoded(content, tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(content)
    try:
        decode_frames(str(path), max_pixels=1_000_000)
    except UnreadableImage as refused:
        assert refused.reason in ("not_an_image", "too_many_pixels")
