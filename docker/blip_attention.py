"""BLIP's attention by PyTorch's fused kernel: transformers writes it out, with every score of a picture in memory.

A picture has 577 patches at BLIP's usual size, so its scores are 12 heads x 577 x 577 a layer: written, scaled,
normalised and read again they cost two thirds of what the products do. Only what captions.py does is covered: whole
pictures, and text that grows by one token a step, so that nothing is ever masked.
"""

from types import MethodType

import torch
from torch.nn.functional import scaled_dot_product_attention


def fuse_attention(model) -> None:
    """Give every attention module of a BLIP captioner the forward functions below."""
    from transformers.models.blip.modeling_blip import BlipAttention
    from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

    for module in model.modules():
        if isinstance(module, BlipAttention):
            module.forward = MethodType(picture_attention, module)
        elif isinstance(module, BlipTextSelfAttention):
            module.forward = MethodType(text_attention, module)


def picture_attention(module, hidden_states: torch.Tensor, **_) -> tuple[torch.Tensor, None]:
    """[pictures, patches, hidden size] in and out."""
    pictures, patches, size = hidden_states.shape
    mixed = module.qkv(hidden_states).view(pictures, patches, 3, module.num_heads, module.head_dim)
    attended = scaled_dot_product_attention(*mixed.permute(2, 0, 3, 1, 4), scale=module.scale)
    return module.projection(attended.transpose(1, 2).reshape(pictures, patches, size)), None


def text_attention(
    module, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, past_key_values=None, **_
) -> tuple[torch.Tensor, None]:
    """One new token of each text, [texts, 1, hidden size] in and out; it sees all earlier ones or the whole picture.

    `past_key_values` is an EncoderDecoderCache: a picture's keys and values are computed at its first token.
    """
    query = _heads(module, module.query(hidden_states))
    if encoder_hidden_states is None:
        keys, values = past_key_values.self_attention_cache.update(
            _heads(module, module.key(hidden_states)), _heads(module, module.value(hidden_states)), module.layer_idx
        )
    else:
        keys, values = _picture_keys(module, encoder_hidden_states, past_key_values)
    attended = scaled_dot_product_attention(query, keys, values)
    return attended.transpose(1, 2).reshape(hidden_states.shape), None


def _picture_keys(module, states: torch.Tensor, cache) -> tuple[torch.Tensor, torch.Tensor]:
    if not cache.is_updated.get(module.layer_idx):
        # Contiguous: they are read at every token, a tenth faster where the rows of a head lie together.
        cache.cross_attention_cache.update(
            _heads(module, module.key(states)).contiguous(),
            _heads(module, module.value(states)).contiguous(),
            module.layer_idx,
        )
        cache.is_updated[module.layer_idx] = True
    layer = cache.cross_attention_cache.layers[module.layer_idx]
    return layer.keys, layer.values


def _heads(module, states: torch.Tensor) -> torch.Tensor:
    """[texts, tokens, hidden size] as [texts, heads, tokens, head size]."""
    return states.view(*states.shape[:-1], -1, module.attention_head_size).transpose(1, 2)
