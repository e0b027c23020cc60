"""The packed row behind the cached policy gives what one full row at a time gives."""

import pytest
import torch

from guard_scorer import GuardScorer, attention_window, cut_to_budget, load_scorer
from scoring_prompt import UnusableModel, build_prompt, view_suffixes

MEMES = [("hello world", "a cat"), ("", "two dogs on a table"), ("wah lau eh 你好世界", None), ("x " * 60, "a cake")]


@pytest.fixture(scope="module")
def scorer(llm_dir):
    return load_scorer(llm_dir, "cpu", "float32", tokens_a_row=200, max_text_tokens=256)


def suffixes_of(prompt):
    return [ids for text, caption in MEMES for ids in view_suffixes(prompt, text, caption, 256).values()]


def one_full_row(model, prompt, suffix) -> float:
    """P(offensive) the plain way: policy and text in one row, no cache, the model's own mask."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt.prefix_ids + suffix])).logits[0, -1]
    return torch.softmax(logits[list(prompt.label_token_ids)] / prompt.temperature, dim=-1)[1].item()


def test_packed_rows_equal_full_rows_batch_after_batch(scorer):
    suffixes = suffixes_of(scorer.prompt)
    plain = [one_full_row(scorer.model, scorer.prompt, suffix) for suffix in suffixes]
    assert max(plain) - min(plain) > 0.05, "the model must tell the memes apart for this test to mean anything"
    for _ in range(3):  # the cache is cropped back each time
        assert scorer.probabilities(suffixes) == pytest.approx(plain, abs=1e-5)


def test_a_score_does_not_depend_on_its_neighbours(scorer):
    suffixes = suffixes_of(scorer.prompt)
    alone = [scorer.probabilities([suffix])[0] for suffix in suffixes]
    assert scorer.probabilities(suffixes[::-1] * 9)[:len(suffixes)] == pytest.approx(alone[::-1], abs=1e-5)


def test_a_row_that_fails_leaves_the_policy_as_it_was(scorer):
    suffixes = suffixes_of(scorer.prompt)
    before = scorer.probabilities(suffixes)
    with pytest.raises(IndexError):
        scorer.probabilities([[10**6]])
    assert scorer.probabilities(suffixes) == before


def test_a_sliding_window_is_kept_in_the_packed_row(scorer, guard_tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(**{**scorer.model.config.to_dict(), "sliding_window": 24})
    model = MistralForCausalLM(config).eval()
    model.load_state_dict(scorer.model.state_dict())
    windowed = GuardScorer(model, scorer.prompt, tokens_a_row=200)
    assert windowed.window == 24
    suffixes = suffixes_of(scorer.prompt)
    plain = [one_full_row(model, scorer.prompt, suffix) for suffix in suffixes]
    assert plain != pytest.approx(scorer.probabilities(suffixes), abs=1e-3), "the window must bite"
    assert windowed.probabilities(suffixes) == pytest.approx(plain, abs=1e-5)


def test_attention_that_cannot_be_packed_is_refused(scorer):
    config = scorer.model.config.__class__()
    config.sliding_window = 100
    config.layer_types = ["full_attention", "sliding_attention"]
    assert attention_window(config, 100) is None
    with pytest.raises(UnusableModel, match="MAX_TEXT_TOKENS"):
        attention_window(config, 101)
    config.layer_types = ["linear_attention"]
    with pytest.raises(UnusableModel, match="linear_attention"):
        attention_window(config, 10)


def test_rows_keep_order_and_budget():
    suffixes = [[1] * 30, [2] * 30, [3] * 100, [4] * 5]
    rows = cut_to_budget(suffixes, 64)
    assert [suffix for row in rows for suffix in row] == suffixes
    assert [len(row) for row in rows] == [2, 1, 1]
    assert cut_to_budget([], 64) == []


def test_pickled_weights_are_never_loaded(llm_dir, tmp_path, guard_tokenizer):
    import shutil

    from transformers import AutoModelForCausalLM

    folder = tmp_path / "pickled"
    shutil.copytree(llm_dir, folder)
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UnusableModel, match="safetensors"):
        load_scorer(folder, "cpu", "float32", 200, 256)


def test_the_prompt_is_whole_under_another_temperature(scorer, guard_tokenizer, llm_dir):
    from scoring_prompt import read_scoring

    hot = build_prompt(guard_tokenizer, {**read_scoring(llm_dir), "temperature": 4.0})
    suffixes = suffixes_of(scorer.prompt)
    cold = torch.tensor(scorer.probabilities(suffixes)).logit()
    warm = torch.tensor(GuardScorer(scorer.model, hot).probabilities(suffixes)).logit()
    assert warm.tolist() == pytest.approx((cold / 4).tolist(), abs=1e-4)
