"""Attention by suffix must give what the dense mask gives: logits and gradients; a model that differs keeps its own."""

import pytest
import torch
import transformers

from guard.packed_rows import pack_row
from guard.suffix_attention import SuffixLayout, similar_lengths, try_suffix_attention

PREFIX = list(range(5, 35))
SUFFIXES = [[40, 41, 42], list(range(50, 90)), [60], [70, 71, 72, 73], list(range(40, 75))]
SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def new_model(family: str, **changed):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changed})
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in model.parameters():  # sharp attention: a wrong mask must show
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    return model


def answers_and_gradients(model, by_suffix: bool):
    model.zero_grad()
    logits = model(**pack_row(PREFIX, SUFFIXES).model_inputs("cpu", model.dtype, by_suffix), use_cache=False).logits[0]
    torch.nn.functional.cross_entropy(logits.float(), torch.arange(len(SUFFIXES))).backward()
    return logits.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family", ["Mistral", "Llama", "Qwen2", "Qwen3"])
def test_logits_and_gradients_are_those_of_the_dense_mask(family):
    model = new_model(family)
    logits, gradients = answers_and_gradients(model, by_suffix=False)
    assert try_suffix_attention(model, pack_row(PREFIX, SUFFIXES), 1e-4)
    fast_logits, fast_gradients = answers_and_gradients(model, by_suffix=True)
    torch.testing.assert_close(fast_logits, logits, atol=1e-4, rtol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_under_autocast_it_multiplies_in_16_bits_forwards_and_backwards():
    """As a GPU trains on a 4-bit base: float32 norms and rotations, 16-bit products."""
    model = new_model("Llama")
    logits, gradients = answers_and_gradients(model, by_suffix=False)
    assert try_suffix_attention(model, pack_row(PREFIX, SUFFIXES), 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        found, found_gradients = answers_and_gradients(model, by_suffix=True)
    assert (found - logits).norm() < 0.1 * logits.norm()
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.v_proj.weight"):
        assert (found_gradients[name] - gradients[name]).norm() < 0.25 * gradients[name].norm(), name


def test_a_layout_goes_to_another_device_whole():
    layout = SuffixLayout.of(10, [3, 40, 1]).to("meta", non_blocking=True)
    assert {tensor.device.type for tensor in [*layout.batches, layout.taken]} == {"meta"}
    assert layout.policy_length == 10 and layout.taken.shape == (44,)


def test_any_other_row_is_taken_as_before():
    """Ordinary rows, rows padded on the left, and packed rows with a mask: a merged model is scored again, say."""
    model = new_model("Llama")
    row = torch.tensor([PREFIX + SUFFIXES[1]])
    padding = torch.ones_like(row).index_fill(1, torch.tensor([0, 1]), 0)
    masked = pack_row(PREFIX, SUFFIXES).model_inputs("cpu", model.dtype)
    kinds = [{"input_ids": row}, {"input_ids": row, "attention_mask": padding}, masked]
    with torch.no_grad():
        expected = [model(**kind, use_cache=False).logits[:, 2:] for kind in kinds]
        assert try_suffix_attention(model, pack_row(PREFIX, SUFFIXES), 1e-4)
        for kind, logits in zip(kinds, expected, strict=True):
            found = model(**kind, use_cache=False).logits[:, 2:]
            torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


def test_no_suffix_is_padded_by_more_than_a_third():
    lengths = [3, 40, 1, 4, 35, 200]
    assert similar_lengths(lengths) == [[2], [0, 3], [4, 1], [5]]
    layout = SuffixLayout.of(10, lengths)
    assert [tuple(slots.shape) for slots in layout.batches] == [(1, 1), (2, 4), (2, 40), (1, 200)]
    slots = torch.cat([slots.flatten() for slots in layout.batches])
    assert slots[layout.taken].tolist() == list(range(10, 10 + sum(lengths)))


@pytest.mark.parametrize(
    ("family", "changed", "said"),
    [("Gemma2", {"head_dim": 16}, "soft-capped"), ("GPTNeoX", {"num_key_value_heads": 4}, None)],
)
def test_a_model_that_would_answer_otherwise_keeps_its_attention(family, changed, said, capsys):
    model = new_model(family, **changed)
    logits, _ = answers_and_gradients(model, by_suffix=False)
    taken = try_suffix_attention(model, pack_row(PREFIX, SUFFIXES), 1e-4)
    assert taken == (said is None)
    if said:
        assert said in capsys.readouterr().err
    again, _ = answers_and_gradients(model, by_suffix=taken)
    torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-4)
