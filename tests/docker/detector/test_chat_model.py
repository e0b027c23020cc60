"""The packed row behind the cached policy gives what one full row at a time gives."""

import copy
from dataclasses import replace

import pytest
import torch

from detector import chat_model
from detector.chat_model import ChatModel, load_chat_model, refuse_foreign_layers
from detector.packed_rows import packed_attention
from detector.prompt import UnusableModel, build_prompt, read_scoring, view_windows

MEMES = [("hello world", "a cat"), ("", "two dogs on a table"), ("wah lau eh 你好世界", None), ("x " * 60, "a cake")]


@pytest.fixture(scope="module")
def plain_scorer(llm_dir):
    return load_chat_model(llm_dir, "cpu", "float32", tokens_a_row=200)


@pytest.fixture(scope="module")
def category_scorer(category_llm_dir):
    return load_chat_model(category_llm_dir, "cpu", "float32", tokens_a_row=200)


@pytest.fixture(params=["labels alone", "with categories"])
def scorer(request, plain_scorer, category_scorer):
    return category_scorer if request.param == "with categories" else plain_scorer


@pytest.fixture(scope="module")
def plain_model(llm_dir):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llm_dir).eval()


def suffixes_of(prompt):
    views = [view_windows(prompt, text, caption, 256).suffixes for text, caption in MEMES]
    return [ids for meme in views for windows in meme.values() for ids in windows]


def one_full_row(model, prompt, suffix) -> list[float]:
    """The numbers of an answer the plain way: the whole prompt in a row, no cache, the model's own mask and output
    layer; the category as a server gives it, behind the label word."""
    label = next_token_shares(model, prompt.prefix_ids + suffix, prompt.label_token_ids, prompt.temperature)
    answered = prompt.prefix_ids + suffix + [prompt.label_token_ids[1]]
    return [label[1], *next_token_shares(model, answered, prompt.category_token_ids.values(), 1.0)]


def next_token_shares(model, tokens, wanted, temperature) -> list[float]:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
    return torch.softmax(logits[list(wanted)] / temperature, dim=-1).tolist()


def numbers(answers) -> torch.Tensor:
    """[answers, 1 + categories]."""
    return torch.tensor([[answer.probability, *answer.categories.values()] for answer in answers])


def difference(answers, expected) -> float:
    """The largest, between answers and rows of numbers."""
    return (numbers(answers) - torch.as_tensor(expected)).abs().max().item()


def test_packed_rows_equal_full_rows_batch_after_batch(scorer, plain_model):
    suffixes = suffixes_of(scorer.prompt)
    plain = [one_full_row(plain_model, scorer.prompt, suffix) for suffix in suffixes]
    spread = [max(column) - min(column) for column in zip(*plain, strict=True)]
    assert min(spread) > 0.05, "the model must tell the memes apart for this test to mean anything"
    for _ in range(3):  # nothing of one batch stays for the next
        assert difference(scorer.answers(suffixes), plain) < 1e-5


def test_a_score_does_not_depend_on_its_neighbours(scorer):
    suffixes = suffixes_of(scorer.prompt)
    alone = [scorer.answers([suffix])[0] for suffix in suffixes]
    together = scorer.answers(suffixes[::-1] * 9)[: len(suffixes)]
    assert difference(together[::-1], numbers(alone)) < 1e-5


def test_a_row_that_fails_leaves_the_policy_as_it_was(scorer):
    suffixes = suffixes_of(scorer.prompt)
    before = scorer.answers(suffixes)
    with pytest.raises(IndexError):
        scorer.answers([[10**6]])
    assert scorer.answers(suffixes) == before


def test_categories_cost_one_token_a_suffix_and_nothing_where_there_are_none(plain_scorer, category_scorer):
    """The budget of a row holds with it, the output layer has a row for each word, and the label stays what it was."""
    suffixes = suffixes_of(plain_scorer.prompt) * 3
    length = sum(map(len, suffixes))
    for scorer, behind, words in ((plain_scorer, [], 2), (category_scorer, [len(suffixes)], 6)):
        rows = []
        handle = scorer.model.register_forward_pre_hook(
            lambda module, given, named, rows=rows: rows.append(named["input_ids"].shape[1]), with_kwargs=True
        )
        scorer.answers(suffixes)
        handle.remove()
        assert sum(rows) == length + sum(behind) and max(rows) <= 200 and len(rows) > 1
        assert scorer.model.get_output_embeddings().weight.shape[0] == words
    plain, kinds = plain_scorer.answers(suffixes), category_scorer.answers(suffixes)
    assert [answer.probability for answer in kinds] == pytest.approx([answer.probability for answer in plain], abs=1e-6)
    assert all(answer.categories == {} for answer in plain)
    for answer in kinds:
        assert list(answer.categories) == ["race", "religion", "gender", "other"]
        assert sum(answer.categories.values()) == pytest.approx(1, abs=1e-6)


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
    assert difference(packed.answers(suffixes), plain) < 1e-5


def test_a_sliding_window_bites(scorer, plain_model):
    from transformers import MistralConfig, MistralForCausalLM

    model = MistralForCausalLM(MistralConfig(**{**plain_model.config.to_dict(), "sliding_window": 24})).eval()
    model.load_state_dict(plain_model.state_dict())
    suffixes = suffixes_of(scorer.prompt)
    windowed = ChatModel(model, scorer.prompt).answers(suffixes)
    assert difference(windowed, numbers(scorer.answers(suffixes))) > 1e-3


def test_layers_that_cannot_be_packed_are_refused(scorer):
    config = scorer.model.config.__class__()
    config.layer_types = ["full_attention", "sliding_attention"]
    refuse_foreign_layers(config)
    config.layer_types = ["linear_attention"]
    with pytest.raises(UnusableModel, match="linear_attention"):
        refuse_foreign_layers(config)


def test_a_model_whose_packed_rows_differ_is_refused(scorer, plain_model, monkeypatch):
    def without_the_policy(module, query, key, value, mask, packed_row, **others):
        blank = [(keys * 0, values * 0) for keys, values in packed_row.policy]
        return packed_attention(module, query, key, value, mask, packed_row=replace(packed_row, policy=blank), **others)

    monkeypatch.setattr(chat_model, "packed_attention", without_the_policy)
    try:
        with pytest.raises(UnusableModel, match="packed and plain rows"):
            ChatModel(copy.deepcopy(plain_model), scorer.prompt)
    finally:
        from transformers import AttentionInterface

        AttentionInterface.register("packed", packed_attention)


def test_a_category_that_differs_is_refused_where_the_label_does_not(category_scorer, plain_model, monkeypatch):
    def where_labels_are_read(self, states):
        self.positions = self.positions[: len(self.positions) // 2]
        return whole(self, states)

    whole = chat_model.AnswerOnly.forward
    ChatModel(copy.deepcopy(plain_model), category_scorer.prompt)
    monkeypatch.setattr(chat_model.AnswerOnly, "forward", where_labels_are_read)
    with pytest.raises(UnusableModel, match="packed and plain rows"):
        ChatModel(copy.deepcopy(plain_model), category_scorer.prompt)


def test_a_model_that_attends_by_itself_is_refused_whatever_it_answers(scorer, guard_tokenizer):
    """Falcon never asks for packed attention; small weights make its packed and its plain rows alike."""
    from transformers import FalconConfig, FalconForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": len(guard_tokenizer), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = FalconForCausalLM(FalconConfig(**shape, initializer_range=1e-4)).eval()
    with pytest.raises(UnusableModel, match="cannot be packed .2 of its 2 layers have attention of their own"):
        ChatModel(model, scorer.prompt)


def test_sixteen_bits_stay_near_the_exact_scores(category_scorer, category_llm_dir):
    suffixes = suffixes_of(category_scorer.prompt)
    exact = numbers(category_scorer.answers(suffixes))
    halved = load_chat_model(category_llm_dir, "cpu", "bfloat16", tokens_a_row=200)
    assert difference(halved.answers(suffixes[::-1] * 9)[: len(suffixes)][::-1], exact) < 0.05


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


def test_the_temperature_is_the_labels_alone(category_scorer, plain_model, guard_tokenizer, category_llm_dir):
    hot = build_prompt(guard_tokenizer, {**read_scoring(category_llm_dir), "temperature": 4.0})
    suffixes = suffixes_of(category_scorer.prompt)
    cold = numbers(category_scorer.answers(suffixes))
    warm = numbers(ChatModel(copy.deepcopy(plain_model), hot).answers(suffixes))
    assert warm[:, 0].logit().tolist() == pytest.approx((cold[:, 0].logit() / 4).tolist(), abs=1e-4)
    assert (warm[:, 1:] - cold[:, 1:]).abs().max() < 1e-5
