"""Batches form from what is there; a stage that fails costs that stage and that image, nothing else."""

import queue
import threading

import pytest
from PIL import Image

from image_decoding import UnreadableImage
from meme_pipeline import Intake, Meme, caption_batch, prepare, score_batch

PICTURE = Image.new("RGB", (2, 2))


def set_at_once(meme: Meme) -> None:
    meme.picture.set_result(meme.path)
    meme.reading.set_result([])


def decoded(path: str, picture="pixels", text: str = "") -> Meme:
    meme = Meme(path, text=text)
    meme.picture.set_result(picture)
    meme.reading.set_result([])
    return meme


def test_many_lines_at_once_make_full_batches_in_order():
    intake = Intake(iter(str(number) for number in range(1700)), set_at_once, workers=2, ahead=64)
    batches = list(intake.batches(16, max_wait_seconds=5))
    intake.close()
    assert [len(batch) for batch in batches] == [16] * 106 + [4]
    assert [meme.path for batch in batches for meme in batch] == [str(number) for number in range(1700)]


def test_a_line_is_not_kept_waiting_for_the_next_one():
    lines: queue.SimpleQueue = queue.SimpleQueue()
    intake = Intake(iter(lines.get, None), set_at_once, workers=1, ahead=8)
    batches = intake.batches(16, max_wait_seconds=0.001)
    for path in ("a", "b"):  # the second is written only once the first is answered
        lines.put(path)
        assert [meme.path for meme in next(batches)] == [path]
    lines.put(None)
    assert list(batches) == []
    intake.close()


def test_no_more_lines_are_taken_in_than_there_is_room_for():
    taken = []
    paths = (taken.append(number) or str(number) for number in range(1000))
    intake = Intake(paths, set_at_once, workers=1, ahead=10)
    batches = intake.batches(4, max_wait_seconds=5)
    for number in range(20):
        next(batches)
        # `ahead` on their way, the batch in hand (its room is given back with the next), one that waits for room.
        assert len(taken) <= 4 * number + 4 + 10 + 1
    intake.close()
    assert len(taken) < 100


def test_nothing_is_left_running_after_close():
    before = set(threading.enumerate())
    intake = Intake(iter(str(number) for number in range(100)), set_at_once, workers=3, ahead=4)
    next(intake.batches(2, max_wait_seconds=0.1))
    intake.close()
    intake._thread.join(5)
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(
    ("decode_fails", "pixels_fail", "read_fails", "reason"),
    [
        (UnreadableImage("missing"), None, None, "missing"),
        (MemoryError(), None, None, "decoding_failed"),
        (None, ValueError(), None, "caption_failed"),
        (None, None, RuntimeError(), "ocr_failed"),
        (None, None, None, None),
    ],
)
@pytest.mark.parametrize("pixels_ready", [True, False])
def test_whatever_fails_on_a_worker_nobody_waits_for_ever(decode_fails, pixels_fail, read_fails, reason, pixels_ready):
    def stage(error, found):
        def compute(_):
            if error:
                raise error
            return found

        return compute

    meme = Meme("x.png")
    prepare(
        meme,
        stage(decode_fails, PICTURE),
        stage(pixels_fail, "pixels"),
        lambda: pixels_ready,
        stage(read_fails, ["line"]),
    )
    assert meme.error == reason
    assert meme.picture.result(0) == (None if decode_fails or pixels_fail else "pixels")
    assert meme.reading.result(0) == ([] if decode_fails or read_fails else ["line"])


def test_a_picture_that_breaks_its_batch_costs_its_own_caption_only():
    def captions(pixels):
        if "bad" in pixels:
            raise RuntimeError
        return [f"a {found}" for found in pixels]

    batch = [decoded(str(number), "bad" if number == 5 else f"cat {number}") for number in range(8)]
    batch.append(decoded("none", None))
    caption_batch(batch, captions)
    assert [meme.caption for meme in batch] == [None if n == 5 else f"a cat {n}" for n in range(8)] + [None]
    assert [meme.error for meme in batch] == ["caption_failed" if n == 5 else None for n in range(9)]


def suffixes_of(text, caption):
    if text == "untokenizable":
        raise ValueError
    views = {"text": [text] if text else None, "image_text": [caption] if caption is not None else None}
    return {name: suffix for name, suffix in views.items() if suffix}


def scored(batch, probabilities):
    score_batch(batch, suffixes_of, probabilities, 0.7)
    return [(meme.probability, meme.error) for meme in batch]


def test_without_a_caption_the_text_is_scored_and_the_reverse():
    both, only_text, only_caption, neither = (decoded(name) for name in "abcd")
    both.text, both.caption = "hello", "a cat"
    only_text.text = "hello"
    only_text.fail("caption_failed")
    only_caption.caption = "a cat"
    only_caption.fail("ocr_failed")
    found = scored(
        [both, only_text, only_caption, neither],
        lambda suffixes: [0.9 if suffix == ["hello"] else 0.1 for suffix in suffixes],
    )
    assert found == [(0.5, None), (0.9, "caption_failed"), (0.1, "ocr_failed"), (0.7, "nothing_to_score")]


def test_a_view_that_cannot_be_scored_costs_that_view_only():
    def probabilities(suffixes):
        if ["bad"] in suffixes:
            raise RuntimeError("out of memory")
        return [float("nan") if suffix == ["nan"] else 0.2 for suffix in suffixes]

    batch = [
        decoded("a", text="hello"),
        decoded("b", text="bad"),
        decoded("c", text="nan"),
        decoded("d", text="untokenizable"),
        decoded("e", text="bad"),
    ]
    batch[4].caption = "a cat"
    assert scored(batch, probabilities) == [
        (0.2, None),
        (0.7, "scoring_failed"),
        (0.7, "scoring_failed"),
        (0.7, "tokenizing_failed"),
        (0.2, "scoring_failed"),
    ]
