"""The packed row behind the cached policy gives what one full row at a time gives."""

import pytest
import torch

from detector import chat_model
from detector.chat_model import (
    ChatModel,
    PackedRow,
    UnpackableAttention,
    cut_to_budget,
    load_chat_model,
    packed_attention,
    refuse_foreign_layers,
)
from detector.prompt import UnusableModel, build_prompt, read_scoring, view_windows

MEMES = [("hello world", "a cat"), ("", "two dogs on a table"), ("wah lau eh 你好世界", None), ("x " * 60, "a cake")]


@pytest.fixture(scope="module")
def scorer(llm_dir):
    return load_chat_model(llm_dir, "cpu", "float32", tokens_a_row=200)


@pytest.fixture(scope="module")
def plain_model(llm_dir):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llm_dir).eval()


def suffixes_of(prompt):
    views = [view_windows(prompt, text, caption, 256).suffixes for text, caption in MEMES]
    return [ids for meme in views for windows in meme.values() for ids in windows]


def one_full_row(model, prompt, suffix) -> float:
    """P(offensive) the plain way: policy and text in one row, no cache, the model's own mask and output layer."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt.prefix_ids + suffix])).logits[0, -1]
    return torch.softmax(logits[list(prompt.label_token_ids)] / prompt.temperature, dim=-1)[1].item()


def test_packed_rows_equal_full_rows_batch_after_batch(scorer, plain_model):
    suffixes = suffixes_of(scorer.prompt)
    plain = [one_full_row(plain_model, scorer.prompt, suffix) for suffix in suffixes]
    assert max(plain) - min(plain) > 0.05, "the model must tell the memes apart for this test to mean anything"
    for _ in range(3):  # nothing of one batch stays for the next
        assert scorer.probabilities(suffixes) == pytest.approx(plain, abs=1e-5)


def test_a_score_does_not_depend_on_its_neighbours(scorer):
    suffixes = suffixes_of(scorer.prompt)
    alone = [scorer.probabilities([suffix])[0] for suffix in suffixes]
    assert scorer.probabilities(suffixes[::-1] * 9)[: len(suffixes)] == pytest.approx(alone[::-1], abs=1e-5)


def test_a_row_that_fails_leaves_the_policy_as_it_was(scorer):
    suffixes = suffixes_of(scorer.prompt)
    before = scorer.probabilities(suffixes)
    with pytest.raises(IndexError):
        scorer.probabilities([[10**6]])
    assert scorer.probabilities(suffixes) == before


FAMILIES = {  # families whose attention differs: windows, biases, norms of queries and keys, windows by layer
    "Mistral": {"sliding_window": 24},
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 24},
    "Phi3": {"pad_token_id": 0},
    "Gemma": {"head_dim": 16},
    "Granite": {"logits_scaling": 3.0},
    "Qwen3Moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    "Ministral": {"head_dim": 16, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_equal_full_rows_in_every_family(family, scorer, guard_tokenizer):
    import copy

    import transformers

    torch.manual_seed(4)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(guard_tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        **FAMILIES[family],
    )
    plain_model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    packed = ChatModel(copy.deepcopy(plain_model), scorer.prompt, tokens_a_row=200)
    suffixes = suffixes_of(scorer.prompt)
    plain = [one_full_row(plain_model, scorer.prompt, suffix) for suffix in suffixes]
    assert packed.probabilities(suffixes) == pytest.approx(plain, abs=1e-5)


def test_a_sliding_window_bites(scorer, plain_model):
    from transformers import MistralConfig, MistralForCausalLM

    model = MistralForCausalLM(MistralConfig(**{**plain_model.config.to_dict(), "sliding_window": 24})).eval()
    model.load_state_dict(plain_model.state_dict())
    suffixes = suffixes_of(scorer.prompt)
    windowed = ChatModel(model, scorer.prompt).probabilities(suffixes)
    assert windowed != pytest.approx(scorer.probabilities(suffixes), abs=1e-3)


def test_layers_that_cannot_be_packed_are_refused(scorer):
    config = scorer.model.config.__class__()
    config.layer_types = ["full_attention", "sliding_attention"]
    refuse_foreign_layers(config)
    config.layer_types = ["linear_attention"]
    with pytest.raises(UnusableModel, match="linear_attention"):
        refuse_foreign_layers(config)


def test_a_model_whose_packed_rows_differ_is_refused(scorer, plain_model, monkeypatch):
    import copy

    def without_the_policy(module, query, key, value, mask, packed_row, **others):
        blank = [(keys * 0, values * 0) for keys, values in packed_row.policy]
        row = PackedRow(packed_row.bounds, packed_row.policy_length, blank)
        return packed_attention(module, query, key, value, mask, packed_row=row, **others)

    monkeypatch.setattr(chat_model, "packed_attention", without_the_policy)
    try:
        with pytest.raises(UnusableModel, match="packed and plain rows"):
            ChatModel(copy.deepcopy(plain_model), scorer.prompt)
    finally:
        from transformers import AttentionInterface

        AttentionInterface.register("packed", packed_attention)


def test_attention_sinks_and_soft_caps_are_refused():
    for name in ("softcap", "s_aux"):
        with pytest.raises(UnpackableAttention, match=name):
            packed_attention(None, None, None, None, None, packed_row=PackedRow([], 0, []), **{name: 1.0})


def test_sixteen_bits_stay_near_the_exact_scores(scorer, llm_dir):
    suffixes = suffixes_of(scorer.prompt)
    exact = scorer.probabilities(suffixes)
    halved = load_chat_model(llm_dir, "cpu", "bfloat16", tokens_a_row=200)
    assert halved.probabilities(suffixes[::-1] * 9)[: len(suffixes)][::-1] == pytest.approx(exact, abs=0.05)


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
        load_chat_model(folder, "cpu", "float32", 200)


def test_the_prompt_is_whole_under_another_temperature(scorer, plain_model, guard_tokenizer, llm_dir):
    import copy

    hot = build_prompt(guard_tokenizer, {**read_scoring(llm_dir), "temperature": 4.0})
    suffixes = suffixes_of(scorer.prompt)
    cold = torch.tensor(scorer.probabilities(suffixes)).logit()
    warm = torch.tensor(ChatModel(copy.deepcopy(plain_model), hot).probabilities(suffixes)).logit()
    assert warm.tolist() == pytest.approx((cold / 4).tolist(), abs=1e-4)
