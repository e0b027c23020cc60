"""LoRA layers that multiply in the base's 16-bit type and keep their parameters in float32.

PEFT casts every input to the adapter's float32 and back, and adds base and adapter by passes of their own over the
output. Here the adapter is more columns of the base's product, in the type of the base's weights, and its gradients
reach the float32 parameters.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def fresh_adapters(base: "PreTrainedModel", rank: int, alpha: int, dropout: float, base_bits: int) -> "PeftModel":
    """The frozen base with untrained LoRA adapters on all its linear layers."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model: PeftModel = get_peft_model(base, config)
    if multiplies_as_loaded(base_bits):
        speed_up_adapters(model)
    return model


def multiplies_as_loaded(base_bits: int) -> bool:
    """Whether all but the adapters is in the type already, and these cast for themselves: else autocast has to."""
    return base_bits == 16 or not torch.cuda.is_available()


def speed_up_adapters(model: nn.Module) -> int:
    """Give each LoRA layer on a plain linear layer, in `model` (a PeftModel), the forward pass below; returns how many.

    A layer of another kind (4-bit weights, several adapters, DoRA) keeps PEFT's.
    """
    from peft.tuners.lora import Linear

    layers = [module for module in model.modules() if isinstance(module, Linear) and is_plain(module)]
    for layer in layers:
        layer.forward = _forward_of(layer)
    return len(layers)


def is_plain(layer: Any) -> bool:
    return (
        type(layer.get_base_layer()) is nn.Linear
        and list(layer.lora_A) == list(layer.lora_B) == layer.active_adapters
        and len(layer.lora_A) == 1
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and layer.lora_B[layer.active_adapters[0]].bias is None
    )


def _forward_of(layer: Any) -> Any:
    name = layer.active_adapters[0]
    base, down, up = layer.get_base_layer(), layer.lora_A[name], layer.lora_B[name]
    scaling, rate = layer.scaling[name], round(256 * getattr(layer.lora_dropout[name], "p", 0.0)) / 256
    peft_forward = layer.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if layer.merged or layer.disable_adapters:
            return peft_forward(x, *args, **kwargs)
        dropped = dropout_mask(x, rate) if rate and layer.training else None
        # What is dropped is made up for by a larger scale, once a layer and not once an input.
        scale = scaling / (1 - rate) if dropped is not None else scaling
        return _LoraLinear.apply(x, base.weight, base.bias, down.weight, up.weight, scale, dropped)

    return forward


def dropout_mask(x: torch.Tensor, rate: float) -> torch.Tensor:
    """True where an input is dropped; bool [rows, in]. The rate is rounded to 1/256.

    Eight bytes from every number drawn: PyTorch's dropout draws one for each input, and took a quarter of a step.
    """
    drawn = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    return (drawn.view(torch.uint8)[: x.numel()] < round(256 * rate)).view(-1, x.shape[-1])


class _LoraLinear(torch.autograd.Function):
    """x @ weight^T + bias + scale * x' @ down^T @ up^T; `down` [r, in] and `up` [out, r] are trained.

    x' is x, 0 where `dropped` is true.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
        dropped: torch.Tensor | None,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down, up = down.to(x.dtype), (up * scale).to(x.dtype)
        adapted = rows if dropped is None else rows.masked_fill(dropped, 0)
        inner = adapted @ down.T
        # One product, rounded once. Added to an output that is rounded already, a young adapter's share, less than half
        # of the last bit, would be lost every time: the first steps of a training went half as far as in float32.
        output = nn.functional.linear(torch.cat([rows, inner], 1), torch.cat([weight, up], 1), bias)
        ctx.save_for_backward(adapted, weight, down, up, inner, dropped)
        ctx.scale = scale
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        adapted, weight, down, up, inner, dropped = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_inner = gradient @ up
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ weight
            if dropped is None:
                of_x.addmm_(of_inner, down)
            else:
                of_x.add_((of_inner @ down).masked_fill_(dropped, 0))
            of_x = of_x.view(*gradients[0].shape[:-1], -1)
        of_down, of_up = of_inner.T @ adapted, gradient.T @ inner
        return of_x, None, None, of_down.float(), of_up.float() * ctx.scale, None, None
