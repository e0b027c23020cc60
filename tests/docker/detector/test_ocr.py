"""Reading text: lost spaces, watermarks, Tamil, and the figures that the README quotes."""

import csv
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from detector.image_decoding import decode_image
from detector.meme import OcrLine
from detector.ocr import OcrEngine, add_frame, looks_unread, meme_text
from detector.tamil_ocr import tamil_folder, tamil_share

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "data" / "ospc_samples"
TAMIL_FONT = Path("/usr/share/fonts/truetype/noto/NotoSansTamil-Bold.ttf")
needs_tamil = pytest.mark.skipif(tamil_folder(None) is None, reason="tesseract-ocr-tam is not installed")


@pytest.fixture(scope="module")
def reader():
    return OcrEngine()


def line(text: str, confidence: float = 0.99) -> OcrLine:
    return OcrLine(text, confidence, [(0, 0), (9, 0), (9, 9), (0, 9)], "rapidocr")


def test_words_are_read_apart_and_in_order(reader, draw_meme):
    assert meme_text(reader.read(draw_meme("HELLO WORLD\nGOOD MORNING", (400, 300)))) == "HELLO WORLD GOOD MORNING"


def test_threads_that_read_side_by_side_read_what_one_does(draw_meme):
    words = ["HELLO WORLD", "GOOD MORNING", "KOPI TIME", "NO MORE RICE", "APA KHABAR", "BYE BYE"]
    pictures = [draw_meme(text, (300 + 40 * number, 240)) for number, text in enumerate(words)]
    reader = OcrEngine(workers=3)
    with ThreadPoolExecutor(3) as pool:
        assert [meme_text(lines) for lines in pool.map(reader.read, pictures * 3)] == words * 3


def test_exact_reading_is_float32_whatever_the_cpu():
    engine = OcrEngine(exact=True).rapidocr
    for part in (engine.text_det, engine.text_rec):
        assert part.session.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_a_picture_without_text_has_none(reader):
    assert reader.read(Image.new("RGB", (300, 200), "teal")) == []
    assert reader.read(Image.new("RGB", (1, 1), "teal")) == []


@pytest.mark.parametrize(
    ("text", "is_watermark"),
    [
        ("imgflip.com", True),
        ("ImgFlip.com ", True),
        ("made with mematic", True),
        ("www.quickmeme.com", True),
        ("memegenerator.net", True),
        ("I got this from imgflip.com lah", False),
        ("made it home", False),
        ("9gag", True),
    ],
)
def test_watermarks_are_not_what_the_chat_model_reads(text, is_watermark):
    assert meme_text([line("hello"), line(text)]) == ("hello" if is_watermark else f"hello {text}")


def test_only_lines_that_look_unread_are_read_again():
    assert not looks_unread(line("APA KHABAR"), 6)
    assert looks_unread(line("APA KHABAR", 0.8), 6)
    assert looks_unread(line("2      |"), 9)
    assert not looks_unread(line("示例图像1"), 5)


@pytest.fixture(scope="module")
def two_columns():
    picture = Image.new("RGB", (760, 420), "white")
    columns = ("cats sleep all\nday long and\nnever say why", "dogs bark at\nthe postman and\ncall it work")
    for left, text in zip((24, 400), columns, strict=True):
        font = ImageFont.load_default(36)
        ImageDraw.Draw(picture).multiline_text((left, 60), text, font=font, fill="black", spacing=16)
    return picture, " ".join(columns).replace("\n", " ")


@pytest.mark.parametrize("turn", [None, "ROTATE_90", "ROTATE_180", "ROTATE_270"])
def test_columns_are_read_one_after_another_on_whatever_side_the_picture_lies(reader, two_columns, turn):
    picture, text = two_columns
    assert meme_text(reader.read(picture.transpose(Image.Transpose[turn]) if turn else picture)) == text


@pytest.mark.parametrize("angle", [-9, 4])
def test_columns_are_read_one_after_another_though_they_are_tilted(reader, two_columns, angle):
    picture, text = two_columns
    tilted = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    assert meme_text(reader.read(tilted)) == text


def test_each_line_of_a_strip_is_read_once(reader):
    picture = Image.new("RGB", (500, 6000), "white")
    lines = [f"line {name} of a long tale" for name in "one two three four five six seven eight nine ten".split()]
    for number, line in enumerate(lines):
        place = (20, 40 + 590 * number)
        ImageDraw.Draw(picture).text(place, line, font=ImageFont.load_default(30), fill="black")
    assert meme_text(reader.read(picture)) == " ".join(lines)


def test_white_letters_on_nothing_are_read(reader, tmp_path):
    picture = Image.new("RGBA", (420, 120))
    ImageDraw.Draw(picture).text((20, 30), "HELLO WORLD", font=ImageFont.load_default(44), fill="white")
    picture.save(tmp_path / "sticker.webp", lossless=True)
    assert meme_text(reader.read(decode_image(str(tmp_path / "sticker.webp")))) == "HELLO WORLD"


def test_lines_of_later_frames_are_added_once_and_in_their_last_form():
    first = [line("GOOD"), line("HA HA")]
    second = add_frame(first, [line("good morning"), line("HA HA"), line("again"), line("again")], 3)
    assert [(found.text, found.frame) for found in second] == [
        ("good morning", 3),
        ("HA HA", 0),
        ("again", 3),
        ("again", 3),
    ]
    assert add_frame(second, [line("G00D MORNING"), line("morning")], 5) == second


@needs_tamil
@pytest.mark.parametrize("colour", [(40, 90, 200), (100, 90, 140), (255, 255, 255), (0, 0, 0)])
def test_a_picture_of_one_colour_has_no_text(reader, colour):
    assert reader.read(Image.new("RGB", (320, 240), colour)) == []


@needs_tamil
def test_tamil_upside_down_is_turned(reader, repo):
    picture = decode_image(str(repo / "datasets/sample_memes/held_out/meme_003.png"))
    upright = meme_text(reader.read(picture))
    turned = meme_text(reader.read(picture.transpose(Image.Transpose.ROTATE_180)))
    assert tamil_share(upright) > 0.9 and SequenceMatcher(None, upright, turned).ratio() > 0.9


@needs_tamil
@pytest.mark.skipif(not TAMIL_FONT.exists(), reason="fonts-noto-core is not installed")
@pytest.mark.parametrize("style", [{"fill": "white", "stroke_width": 3, "stroke_fill": "black"}, {"fill": "black"}])
def test_tamil_lines_are_read_by_tesseract_beside_english_ones(reader, style):
    picture = Image.new("RGB", (600, 320), (150, 160, 170))
    pen = ImageDraw.Draw(picture)
    pen.text((20, 30), "வணக்கம் நண்பர்களே", font=ImageFont.truetype(str(TAMIL_FONT), 40), **style)
    pen.text((20, 200), "GOOD MORNING", font=ImageFont.load_default(44), **style)
    lines = reader.read(picture)
    assert [(found.engine, found.text) for found in lines] == [
        ("tesseract", "வணக்கம் நண்பர்களே"),
        ("rapidocr", "GOOD MORNING"),
    ]


@needs_tamil
def test_among_tamil_lines_a_word_that_rapidocr_is_sure_of_is_read_again(reader, repo):
    """Alone it would stay "6T60T", of which RapidOCR is 0.99 sure."""
    lines = reader.read(decode_image(str(repo / "datasets/sample_memes/held_out/meme_031.png")))
    assert meme_text(lines).endswith("என")


def test_language_data_are_found_where_they_are_named(tmp_path):
    assert tamil_folder(tmp_path) == tamil_folder(None)
    (tmp_path / "tessdata").mkdir()
    (tmp_path / "tessdata" / "tam.traineddata").touch()
    assert tamil_folder(tmp_path) == tmp_path / "tessdata"


def test_without_language_data_tamil_is_off_and_the_rest_goes_on(monkeypatch, draw_meme):
    monkeypatch.setattr("detector.tamil_ocr.TESSDATA_FOLDERS", ())
    reader = OcrEngine()
    assert reader.tamil is None
    assert meme_text(reader.read(draw_meme("HELLO WORLD"))) == "HELLO WORLD"


def test_tamil_share_ignores_spaces():
    assert tamil_share("வணக்கம்") == 1
    assert tamil_share("அ ab ") == pytest.approx(1 / 3)
    assert tamil_share("") == 0


@needs_tamil
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/data/ospc_samples is not here")
def test_the_challenges_samples_are_read(reader):
    with (SAMPLES / "transcriptions.tsv").open(encoding="utf-8") as table:
        for name, _, truth in csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
            text = meme_text(reader.read(decode_image(str(SAMPLES / name))))
            assert SequenceMatcher(None, text, truth).ratio() > 0.75, (text, truth)
