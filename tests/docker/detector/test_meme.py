"""One image's record: the label follows the printed number, and evidence has one set of keys for all who use it."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from detector.meme import Evidence, Meme, OcrLine, Stopwatch, evidence_of, label_of, printed, result_line


@pytest.mark.parametrize(
    ("probability", "line"),
    [
        (0.5, b"0.5000\t1\n"),
        (0.49999, b"0.5000\t1\n"),
        (0.49994, b"0.4999\t0\n"),
        (0, b"0.0000\t0\n"),
        (1, b"1.0000\t1\n"),
    ],
)
def test_the_label_agrees_with_the_printed_number(probability, line):
    assert result_line(probability, 0.5) == line


def test_the_label_is_that_of_the_printed_digits_where_numpy_rounds_otherwise():
    """0.61245 is stored as a little less than it looks: `%.4f` prints 0.6124, np.round gives 0.6125 or the reverse."""
    differing = [
        p for p in (number / 100_000 + 5e-5 for number in range(0, 100_000, 10)) if np.round(p, 4) != printed(p)
    ]
    assert differing, "without such values this test means nothing"
    for probability in differing:
        for threshold in (printed(probability), float(np.round(probability, 4))):
            number, label = result_line(probability, threshold).split()
            assert int(label) == label_of(probability, threshold) == int(float(number) >= threshold)


def test_evidence_has_the_promised_keys_in_order_and_no_more_digits_of_confidence_than_mean_something():
    meme = Meme("a.png", lines=[OcrLine("hi", 0.987654, [(1, 2)], "rapidocr")], text="hi", caption="a cat")
    meme.views, meme.probability = {"text": 0.49999}, 0.49999
    meme.unseen_text = 1 / 3
    meme.categories = {"race": 0.75, "other": 0.25}
    found = json.loads(json.dumps(asdict(evidence_of(meme, 0.5))))
    assert list(found.items()) == [
        ("path", "a.png"),
        ("text", "hi"),
        ("ocr", [{"text": "hi", "confidence": 0.9877, "box": [[1, 2]], "engine": "rapidocr", "frame": 0}]),
        ("caption", "a cat"),
        ("probability_text", 0.49999),
        ("probability_image_text", None),
        ("probability", 0.49999),
        ("label", 1),
        ("categories", {"race": 0.75, "other": 0.25}),
        ("unseen_frames", 0.0),
        ("unseen_text", 0.3333),
        ("error", None),
        ("milliseconds", {}),
    ]


def test_evidence_without_categories_is_read_and_a_share_beyond_its_bounds_is_not():
    read = TypeAdapter(Evidence).validate_python
    assert read({"probability": 0.5}).categories == evidence_of(Meme("a.png", probability=0.5), 0.5).categories == {}
    assert read({"probability": 0.5, "categories": {"race": 1, "other": 0}}).categories == {"race": 1.0, "other": 0.0}
    for share in (1.1, -0.1, float("nan"), "x", None):
        with pytest.raises(ValidationError, match=r"categories\.race"):
            read({"probability": 0.5, "categories": {"race": share}})


def test_the_first_reason_stays_and_times_add_up():
    meme = Meme("a.png")
    meme.fail("ocr_failed")
    meme.fail("scoring_failed")
    assert meme.error == "ocr_failed"
    meme.milliseconds["ocr"] = 5.0
    with Stopwatch(meme.milliseconds, "ocr"):
        pass
    assert 5 <= meme.milliseconds["ocr"] < 1000
