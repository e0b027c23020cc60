"""A packed row must give what separate rows give: logits, loss and gradients."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from packed_rows import check_packable, pack_row

PREFIX = list(range(5, 35))
SUFFIXES = [[40, 41, 42], [50, 51, 52, 53, 54, 55], [60], [70, 71, 72, 73]]
SIZES = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
FAMILIES = [(MistralConfig, MistralForCausalLM), (LlamaConfig, LlamaForCausalLM), (Qwen3Config, Qwen3ForCausalLM)]


@pytest.fixture(params=FAMILIES, ids=["mistral", "llama", "qwen3"])
def model(request):
    config_class, model_class = request.param
    torch.manual_seed(0)
    return model_class(config_class(**SIZES)).float().eval()


def test_logits_equal_those_of_separate_rows(model):
    packed = model(**pack_row(PREFIX, SUFFIXES).model_inputs("cpu"), use_cache=False).logits[0]
    separate = torch.stack([model(torch.tensor([PREFIX + suffix])).logits[0, -1] for suffix in SUFFIXES])
    assert torch.allclose(packed, separate, atol=1e-5)


def test_loss_and_lora_gradients_equal_those_of_separate_rows(model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    labels = torch.tensor([3, 4, 3, 4])

    def loss_and_gradients(logits):
        loss = torch.nn.functional.cross_entropy(logits, labels)
        model.zero_grad()
        loss.backward()
        return loss.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()
                             if weight.grad is not None}

    packed_loss, packed = loss_and_gradients(
        model(**pack_row(PREFIX, SUFFIXES).model_inputs("cpu"), use_cache=False).logits[0])
    loss, separate = loss_and_gradients(
        torch.stack([model(torch.tensor([PREFIX + suffix])).logits[0, -1] for suffix in SUFFIXES]))
    assert abs(packed_loss - loss) < 1e-5
    assert packed.keys() == separate.keys() and len(packed) == 2 * 2 * 7  # A and B of 7 linear layers in 2 blocks
    assert all(torch.allclose(packed[name], separate[name], atol=1e-5) for name in packed)
    assert any(gradient.abs().max() > 1e-4 for gradient in packed.values())


def test_a_suffix_does_not_see_its_neighbours(model):
    alone = model(**pack_row(PREFIX, SUFFIXES[:1]).model_inputs("cpu"), use_cache=False).logits[0, 0]
    crowded = model(**pack_row(PREFIX, [SUFFIXES[0], [99] * 9]).model_inputs("cpu"), use_cache=False).logits[0, 0]
    assert torch.allclose(alone, crowded, atol=1e-5)


def test_short_windows_and_linear_attention_are_refused_with_the_remedy():
    check_packable(MistralConfig(**SIZES, sliding_window=64), longest=60)
    with pytest.raises(ValueError, match="sliding window of 64.*PACKED_ROWS=0"):
        check_packable(MistralConfig(**SIZES, sliding_window=64), longest=65)
    linear = Qwen3Config(**SIZES)
    linear.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ValueError, match="linear_attention.*PACKED_ROWS=0"):
        check_packable(linear, longest=10)
