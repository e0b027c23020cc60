"""The fast LoRA layers must give what PEFT's give: outputs, gradients, and PEFT's own where they are not plain."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from training.lora_linear import _LoraLinear, dropout_mask, speed_up_adapters

TOKENS = torch.arange(5, 45)[None]


def adapted(**changed):
    """A Qwen2 (its query, key and value layers have biases) with adapters that are not zero."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    lora = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", task_type="CAUSAL_LM", **changed)
    model = get_peft_model(Qwen2ForCausalLM(config), lora)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def outputs_and_gradients(model):
    model.zero_grad()
    logits = model(TOKENS).logits
    logits.float().logsumexp(-1).square().sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_outputs_and_gradients_are_pefts():
    model = adapted()
    logits, gradients = outputs_and_gradients(model)
    assert speed_up_adapters(model) == 2 * 7 == len(gradients) // 2
    fast_logits, fast_gradients = outputs_and_gradients(model)
    torch.testing.assert_close(fast_logits, logits, atol=1e-4, rtol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, atol=1e-3, rtol=1e-3, msg=name)


def test_in_bfloat16_the_parameters_and_their_gradients_stay_float32():
    model = adapted()
    expected, _ = outputs_and_gradients(model)
    for name, module in model.named_modules():
        if not name.endswith(("lora_A", "lora_B", "default")):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.bfloat16()
    speed_up_adapters(model)
    logits, gradients = outputs_and_gradients(model)
    assert logits.dtype == torch.bfloat16 and {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    assert (logits.float() - expected).norm() / expected.norm() < 0.05


def test_dropout_falls_on_the_adapters_input_in_training_alone():
    model = adapted(lora_dropout=0.5)
    model.eval()
    expected, _ = outputs_and_gradients(model)
    speed_up_adapters(model)
    torch.testing.assert_close(outputs_and_gradients(model)[0], expected, atol=1e-4, rtol=1e-4)
    model.train()
    first, second = (outputs_and_gradients(model)[0] for _ in range(2))
    assert not torch.equal(first, second)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    with model.disable_adapter(), torch.no_grad():
        base = model(TOKENS).logits
    torch.testing.assert_close(outputs_and_gradients(model)[0], base, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", [{"use_dora": True}, {"lora_bias": True}])
def test_other_kinds_of_adapters_keep_pefts_forward_pass(changed):
    model = adapted(**changed)
    assert speed_up_adapters(model) == 0


def test_the_mask_drops_its_share_and_the_scale_makes_up_for_it():
    torch.manual_seed(1)
    mask = dropout_mask(torch.ones(3, 100, 77), 0.25)
    assert mask.shape == (300, 77) and mask.float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.manual_seed(1)
    assert torch.equal(dropout_mask(torch.ones(3, 100, 77), 0.25), mask)
    model = adapted(lora_dropout=0.25)
    speed_up_adapters(model)
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    x, base = torch.randn(1, 32), layer.get_base_layer()
    with torch.no_grad():
        expected = layer.eval()(x) - base(x)
        layer.train()
        mean = torch.stack([layer(x) - base(x) for _ in range(2000)]).mean(0)
    assert ((mean - expected).norm() / expected.norm()).item() < 0.05


def test_gradients_behind_a_mask_are_autograds():
    torch.manual_seed(0)
    x, weight, bias, down, up = (torch.randn(*shape) for shape in ((6, 8), (5, 8), (5,), (3, 8), (5, 3)))
    dropped = dropout_mask(x, 0.3)
    for tensor in (x, down, up):
        tensor.requires_grad_()
    expected = x @ weight.T + bias + 2.0 * (x * ~dropped) @ down.T @ up.T
    output = _LoraLinear.apply(x, weight, bias, down, up, 2.0, dropped)
    torch.testing.assert_close(output, expected)
    ours, theirs = (torch.autograd.grad(y.square().sum(), (x, down, up)) for y in (output, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_small_update_is_not_lost_to_rounding_in_bfloat16():
    """Half of the last bit of an output of 1 is 0.002; the update is 0.001 in each of many outputs about 1."""
    torch.manual_seed(0)
    inputs = torch.rand(4000, 1).bfloat16() + 1
    weight = (1 + torch.rand(64, 1) / 8).bfloat16()
    exact = inputs.float() @ weight.float().T
    found = _LoraLinear.apply(inputs, weight, None, torch.ones(1, 1), torch.full((64, 1), 0.001), 1.0, None).float()
    assert (found - exact).mean().item() == pytest.approx(0.001 * inputs.float().mean().item(), rel=0.25)
