"""Thumbnails of the report: a budget of bytes, and of pixels."""

from PIL import Image

from report.thumbnails import thumbnails


def test_thumbnails_keep_to_their_budget_whatever_the_picture(tmp_path):
    noise = Image.effect_noise((800, 800), 120)
    noise.save(tmp_path / "noise.png")
    wanted = {20_000: 60, 5_000: 48, 300: 0}
    for budget, least in wanted.items():
        (made,) = thumbnails([str(tmp_path / "noise.png")], 320, budget, 10**7)
        assert len(made.webp) <= budget and bool(made.webp) == bool(least), budget
        assert made.size == (800, 800) and made.reason == (None if least else "over_budget")
    (bomb,) = thumbnails([str(tmp_path / "noise.png")], 320, 20_000, 10_000)
    assert bomb.reason == "too_many_pixels"
