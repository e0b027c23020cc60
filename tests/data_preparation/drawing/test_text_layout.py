"""Type, line breaks and fonts of a meme's text."""

import pytest

from drawing import text_layout

LANGUAGES = ["en", "ms", "ta", "zh"]
TEXTS = {
    "en": "Number {n}: my bus is late, again and again",
    "zh": "第{n}个：我的巴士又迟到了，一次又一次",
    "ms": "Nombor {n}: bas saya lambat, lagi dan lagi",
    "ta": "எண் {n}: என் பேருந்து MRT போல மீண்டும் தாமதம்",
}


def test_missing_fonts_are_named_with_their_packages(tmp_path):
    with pytest.raises(text_layout.MissingFontsError) as missing:
        text_layout.require_fonts(tmp_path)
    assert "apt-get install fonts-noto-cjk fonts-noto-color-emoji fonts-noto-core" in str(missing.value)
    assert str(tmp_path / "truetype/noto/NotoSansTamil-Bold.ttf") in str(missing.value)


@pytest.mark.usefixtures("fonts")
@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_stay_inside_the_picture_and_lose_no_text(language):
    text = " ".join(TEXTS[language].format(n=number) for number in range(2))
    for block in text_layout.lay_out(text, language, (320, 320), "both", 40):
        assert max(text_layout.line_width(line, language, block.pixels) for line in block.lines) <= 320
        assert 0 <= block.top and block.top + block.depth <= 320
    blocks = text_layout.lay_out(text, language, (320, 320), "both", 40)
    written = "".join("".join(block.lines) for block in blocks)
    assert written.replace(" ", "") == text.replace(" ", "")


@pytest.mark.usefixtures("fonts")
def test_tamil_is_shaped_and_no_letter_is_a_box():
    tamil = text_layout.font("tamil", 40)
    assert tamil.getlength("கோ") != tamil.getlength("க") + tamil.getlength("ோ")  # a vowel sign around its consonant
    box = tamil.getmask("A").getbbox()
    runs = text_layout._runs("MRT-ல் 4", "ta", 40)
    assert [run for run, _ in runs] == ["MRT-", "ல்", " 4"]
    assert all(face.getmask(run).getbbox() != box for run, face in runs)
