"""Pictures of every kind come out upright, RGB, on white and of bounded size; no bytes get past UnreadableImage."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.image_decoding import MAX_SIDE, UnreadableImage, decode_image


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


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
        assert corner(decode_image(str(path)))[0] > 200, name


@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [
        ("large.jpg", (6000, 3000), "L"),
        ("large.png", (5000, 2500), "1"),
        ("large_palette.png", (4000, 2000), "P"),
        ("ribbon.png", (20_000, 10), "RGB"),
    ],
)
def test_large_pictures_are_reduced_in_proportion(name, size, mode, tmp_path):
    decoded = decode_image(saved(Image.new(mode, size, 1), tmp_path / name))
    assert decoded.mode == "RGB" and max(decoded.size) == MAX_SIDE
    assert decoded.size[1] == pytest.approx(MAX_SIDE * size[1] / size[0], abs=1)


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
        picture = decode_image(str(path), max_pixels=4_000_000)
    except UnreadableImage as refused:
        assert refused.reason in ("not_an_image", "too_many_pixels")
    else:
        assert picture.mode == "RGB" and max(picture.size) <= MAX_SIDE


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_or_decoded(content, tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(content)
    try:
        decode_image(str(path), max_pixels=1_000_000)
    except UnreadableImage as refused:
        assert refused.reason in ("not_an_image", "too_many_pixels")
