"""What breaks a batch costs its own image; views are averaged; settings take effect."""

import pytest
import torch

from detector.chat_model import Answer
from detector.meme import Meme
from detector.prompt import Views, content_ids, view_windows
from detector.scorer import Scorer, load_scorer
from detector.settings import DetectorSettings, UnusableSetting


class FakeCaptioner:
    def captions(self, pixels):
        if "bad" in pixels:
            raise RuntimeError("out of memory")
        return [f"a {found}" for found in pixels]


class FakeChatModel:
    """Its prompt is a dict of probabilities, or of (probability, categories), by text; a suffix is [text]."""

    def __init__(self, probabilities):
        self.prompt = probabilities

    def answers(self, suffixes):
        found = [self.prompt[text] for (text,) in suffixes]
        if RuntimeError in found:
            raise RuntimeError("out of memory")
        return [Answer(*answer) if isinstance(answer, tuple) else Answer(answer, {}) for answer in found]


@pytest.fixture
def scorer_of(monkeypatch):
    """scorer_of({text: probability}): a Scorer over fakes, whose fallback is 0.7."""

    def suffixes(prompt, text, caption, max_tokens):
        if text == "untokenizable":
            raise ValueError
        windows = (("text", text.split("|")), ("image_text", [caption]))
        return Views({name: [[words] for words in found] for name, found in windows if found[0]}, 0.0)

    monkeypatch.setattr("detector.scorer.view_windows", suffixes)
    return lambda probabilities: Scorer(FakeCaptioner(), FakeChatModel(probabilities), 0.5, 0.7, 256)


def test_a_picture_that_breaks_its_batch_costs_its_own_caption_only(scorer_of):
    memes = [Meme(str(number), pixels="bad" if number == 5 else f"cat {number}") for number in range(8)]
    memes.append(Meme("none", error="missing"))
    scorer_of({f"a cat {number}": 0.25 for number in range(8)}).score(memes)
    assert [meme.caption for meme in memes] == [None if n == 5 else f"a cat {n}" for n in range(8)] + [None]
    assert [meme.error for meme in memes] == ["caption_failed" if n == 5 else None for n in range(8)] + ["missing"]
    assert [meme.probability for meme in memes] == [0.7 if n == 5 else 0.25 for n in range(8)] + [0.7]
    assert all(meme.milliseconds.keys() == {"caption", "score"} for meme in memes)


def test_without_a_caption_the_text_is_scored_and_the_reverse(scorer_of):
    both, only_text = Meme("a", text="hello", pixels="cat"), Meme("b", text="hello", error="caption_failed")
    only_caption, neither = Meme("c", pixels="cat", error="ocr_failed"), Meme("d")
    memes = [both, only_text, only_caption, neither]
    scorer_of({"hello": 0.9, "a cat": 0.1}).score(memes)
    assert [(meme.probability, meme.error) for meme in memes] == [
        (0.5, None),
        (0.9, "caption_failed"),
        (0.1, "ocr_failed"),
        (0.7, "nothing_to_score"),
    ]


def test_a_view_that_cannot_be_scored_costs_that_view_only(scorer_of):
    memes = [Meme(text, text=text) for text in ("hello", "bad", "nan", "untokenizable", "bad")]
    memes[4].pixels = "cat"
    scorer_of({"hello": 0.2, "bad": RuntimeError, "nan": float("nan"), "a cat": 0.2}).score(memes)
    assert [(meme.probability, meme.error) for meme in memes] == [
        (0.2, None),
        (0.7, "scoring_failed"),
        (0.7, "scoring_failed"),
        (0.7, "tokenizing_failed"),
        (0.2, "scoring_failed"),
    ]


def test_categories_are_the_views_mean_each_that_of_its_most_harmful_window(scorer_of):
    """Of two windows that are as harmful the first counts; a view that failed counts for nothing."""
    answers = {
        "mild": (0.2, {"race": 0.9, "other": 0.1}),
        "worst": (0.8, {"race": 0.25, "other": 0.75}),
        "as bad": (0.8, {"race": 1.0, "other": 0.0}),
        "a cat": (0.1, {"race": 0.5, "other": 0.5}),
        "nan": (0.5, {"race": float("nan"), "other": float("nan")}),
    }
    texts = ["mild|worst|as bad", "mild", "nan", "nan|mild", ""]
    memes = [Meme(text, text=text, pixels="cat" if number == 0 else None) for number, text in enumerate(texts)]
    scorer_of(answers).score(memes)
    both = pytest.approx({"race": 0.375, "other": 0.625})
    mild = {"race": 0.9, "other": 0.1}
    assert [(meme.views, meme.categories, meme.error) for meme in memes] == [
        ({"text": 0.8, "image_text": 0.1}, both, None),
        ({"text": 0.2}, mild, None),
        ({}, {}, "scoring_failed"),
        ({"text": 0.2}, mild, "scoring_failed"),
        ({}, {}, "nothing_to_score"),
    ]
    assert [meme.probability for meme in memes] == [pytest.approx(0.45), 0.2, 0.7, 0.2, 0.7]


def test_a_model_with_categories_gives_those_of_every_meme_and_the_same_probabilities(
    llm_dir, category_llm_dir, caption_model_dir
):
    given = [("wah lau eh", 0.3), ("", -0.5), ("durian and kopi " * 90, 0.9)]
    found = []
    for folder in (llm_dir, category_llm_dir):
        memes = [Meme(text, text=text, pixels=torch.full((3, 32, 32), shade)) for text, shade in given]
        loaded(folder, caption_model_dir).score(memes)
        found.append(memes)
    for plain, asked in zip(*found, strict=True):
        assert asked.probability == pytest.approx(plain.probability, abs=1e-6) and plain.categories == {}
        assert list(asked.categories) == ["race", "religion", "gender", "other"]
        assert sum(asked.categories.values()) == pytest.approx(1, abs=1e-6)


def loaded(llm_dir, caption_model_dir, **settings) -> Scorer:
    folders = {"llm_dir": llm_dir, "caption_model_dir": caption_model_dir, "dtype": "float32"}
    return load_scorer(DetectorSettings(**folders | settings), "cpu", {})


def test_settings_take_effect_and_scoring_json_counts_where_they_are_unset(llm_dir, caption_model_dir):
    by_model = loaded(llm_dir, caption_model_dir)
    assert (by_model.threshold, by_model.max_text_tokens, by_model.fallback_probability) == (0.5, 256, 0.5)
    told = loaded(llm_dir, caption_model_dir, threshold=0.0, max_text_tokens=16, fallback_probability=0.25)
    assert (told.threshold, told.max_text_tokens, told.fallback_probability) == (0.0, 16, 0.25)
    memes = [Meme("long", text="durian and kopi " * 8) for _ in range(2)]
    for meme, scorer in zip(memes, (by_model, told), strict=True):
        scorer.score([meme])
    assert memes[0].probability != pytest.approx(memes[1].probability, abs=1e-6)


def test_what_stands_behind_the_token_limit_counts(llm_dir, caption_model_dir):
    """The most harmful window is a view's probability; what is in no window is said."""
    scorer = loaded(llm_dir, caption_model_dir, max_text_tokens=64)
    harmless, alone = "durian and kopi " * 90, Meme("alone", text="wah lau eh")
    prompt = scorer.chat_model.prompt
    assert len(content_ids(prompt, harmless)) > 250
    ends = [Meme(end, text=harmless + end) for end in ("", "wah lau eh this one damn shiok leh")]
    scorer.score([alone, *ends])
    assert ends[1].probability != pytest.approx(ends[0].probability, abs=0.001)
    assert all(meme.unseen_text == 0 for meme in (alone, *ends))
    windows = view_windows(prompt, ends[1].text, None, 64).suffixes["text"]
    assert ends[1].views["text"] == pytest.approx(
        max(answer.probability for answer in scorer.chat_model.answers(windows)), abs=1e-5
    )
    endless = Meme("endless", text=harmless * 20)
    scorer.score([endless])
    assert 0.5 < endless.unseen_text < 1 and endless.error is None


def test_models_that_cannot_be_loaded_are_named(llm_dir, caption_model_dir, tmp_path):
    with pytest.raises(
        UnusableSetting, match=f"CAPTION_MODEL_DIR={tmp_path}: lacks config.json: it is no model folder"
    ):
        loaded(llm_dir, tmp_path)
    with pytest.raises(UnusableSetting, match=f"LLM_DIR={tmp_path}: .*attach_policy"):
        loaded(tmp_path, caption_model_dir)


def test_a_scorer_takes_pixels_from_any_reader(llm_dir, caption_model_dir):
    memes = [Meme(str(shade), pixels=torch.full((3, 32, 32), shade)) for shade in (-1.0, 1.0)]
    loaded(llm_dir, caption_model_dir).score(memes)
    assert all(meme.error is None and meme.caption is not None and 0 < meme.probability < 1 for meme in memes)
